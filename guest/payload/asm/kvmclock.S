# kvmclock: asks the host, at CPL 0, to write into guest RAM by itself.
#
# Each MSR in the table hands the hypervisor a guest address (Linux
# Documentation/virt/kvm/x86/msr.rst; Hyper-V TLFS; Xen cpuid.h). For each,
# the payload reports whether the write was accepted or raised #GP. The exit
# code is the number that were accepted.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

main:	entry
	test	r12d, r12d
	jnz	park

	# Vector 13 is the only one with a handler.
	lea	rax, [rip + protection]
	lea	rdi, [rip + gate]
	mov	[rdi], ax
	shr	rax, 16
	mov	[rdi + 6], ax
	shr	rax, 16
	mov	[rdi + 8], eax
	lea	rax, [rip + idt]
	mov	[rip + idtr + 2], rax
	lidt	[rip + idtr]

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
	inc	ebp
	say	"accepted\n"
	jmp	2f
refused:
	say	"#GP\n"
2:	add	r14, 4096
	add	rbx, 8
	cmp	dword ptr [rbx], 0
	jne	1b
	mov	eax, ebp
	jmp	quit

# protection skips the instruction that faulted.
protection:
	add	rsp, 8				# error code
	lea	rax, [rip + refused]
	mov	[rsp], rax
	iretq

	.data
	.balign	16
idt:	.zero	13 * 16
gate:	.word	0				# offset 15:0
	.word	0x10				# code segment
	.word	0x8e00				# present, DPL 0, 64-bit interrupt gate
	.word	0				# offset 31:16
	.long	0				# offset 63:32
	.long	0
idtr:	.word	idtr - idt - 1
	.quad	0

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
	.long	0
