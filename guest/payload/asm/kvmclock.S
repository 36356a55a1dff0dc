# kvmclock: asks the host, at CPL 0, to write into guest RAM by itself.
#
# Each MSR in the table hands the hypervisor a guest address (Linux
# Documentation/virt/kvm/x86/msr.rst; Hyper-V TLFS; Xen cpuid.h; SDM vol. 4). For
# each, the payload reports whether the write was accepted or raised #GP. The exit
# code is the number that were accepted, without that of the microcode's update: KVM
# takes it and does nothing.
#
# With an argument, it also makes a hypercall that KVM refuses a guest without
# paravirtual features (Documentation/virt/kvm/x86/hypercalls.rst). On kvm_pvm,
# hypercalls from CPL 0 never return.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "idt.inc"

	.set	UPDATE, 0x79

main:	entry
	test	r12d, r12d
	jnz	park

	handle	13, protection			# #GP

	call	userland
	lea	rbx, [rip + msrs]
	mov	r14, [r13 + INFO_TABLE]		# first free page, a new one each time
	xor	ebp, ebp			# accepted
1:	say	"MSR "
	mov	eax, [rbx]
	call	hex
	say	": "

	mov	ecx, [rbx]
	mov	rax, r14
	or	eax, [rbx + 4]
	mov	rdx, r14
	shr	rdx, 32
	wrmsr
	cmp	dword ptr [rbx], UPDATE
	je	3f
	inc	ebp
3:	say	"accepted\n"
	jmp	2f
refused:
	say	"#GP\n"
2:	add	r14, 4096
	add	rbx, 8
	cmp	dword ptr [rbx], 0
	jne	1b

	cmp	qword ptr [r13 + INFO_ARGS], 0
	je	6f
	say	"hypercall 5: "
	xor	eax, eax
	cpuid
	cmp	ebx, 0x756e6547			# "Genu"ineIntel
	mov	eax, 5				# KVM_HC_KICK_CPU
	mov	ebx, 0				# flags
	mov	ecx, -1				# the APIC ID of no vCPU
	je	3f
	vmmcall
	jmp	4f
3:	vmcall
4:	test	rax, rax
	jnz	5f
	inc	ebp
	say	"accepted\n"
	jmp	6f
5:	say	"refused\n"
6:	mov	eax, ebp
	jmp	quit

# protection skips the instruction that faulted.
protection:
	add	rsp, 8				# error code
	lea	rax, [rip + refused]
	mov	[rsp], rax
	iretq

	.data
# MSR, and the bits beside the address that enable it.
msrs:	.long	0x00000011, 0			# KVM wall clock, old
	.long	0x00000012, 1			# KVM system time, old
	.long	0x4b564d00, 0			# KVM wall clock
	.long	0x4b564d01, 1			# KVM system time (kvm-clock)
	.long	0x4b564d02, 1 | 8		# KVM async page fault, by interrupt
	.long	0x4b564d03, 1			# KVM steal time
	.long	0x4b564d04, 1			# KVM paravirtual EOI
	.long	0x40000000, 1			# Hyper-V guest OS id; Xen hypercall page
	.long	0x40000001, 1			# Hyper-V hypercall page
	.long	0x40000021, 1			# Hyper-V reference TSC page
	.long	0x40000073, 1			# Hyper-V VP assist page
	.long	0x40000200, 0			# Xen hypercall page beside Hyper-V
	.long	UPDATE, 0			# update of the microcode
	.long	0
