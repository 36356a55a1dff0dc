# hostile: attacks its host, at CPL 0, by all that a guest can do: model-specific
# registers, ports, memory that isn't there, hypercalls, instructions of nested
# guests, control registers, page tables, interrupts and IPIs. What it does is random, by
# a seed. Each attack that faults is given up.
#
# The arguments are the seed and the number of attacks of each vCPU. vCPU 0 ends the
# guest with exit code 0 when it has made its own. An attack may end the guest before.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

# From main on  r12 = number of this vCPU, r13 = info block, r14 = its stack
#               rbx = state of the random numbers, rbp = attacks to go
	.set ARENA, 8 << 20		# bytes at the end of the first RAM range, and nothing else there
	.set LOST,  1 << 39		# addresses of the tables that `walks` changes
	.set HOLE,  0xc0000000
	.set DEVICES, 0xfe000000
	.set APIC,  0xfee00000

# choose LABEL...: after an AND of eax, jump to label number eax, from 0 on. If there are
# fewer labels, go on. It changes eax.
	.macro	choose first, rest:vararg
	jz	\first
	.ifnb	\rest
	dec	eax
	choose	\rest
	.endif
	.endm

main:	entry
	mov	r14, rsp
	call	table
	call	traps
	mov	rbx, [r13 + INFO_ARGS]
	mov	rbp, [r13 + INFO_ARGS + 8]
	test	rbp, rbp
	jnz	1f
	mov	ebp, 20000
1:	test	rbx, rbx
	jnz	2f
	call	cycles
	mov	rbx, rax
	shl	rbx, 1
2:	test	r12d, r12d
	jnz	3f
	call	userland
	say	"seed "
	mov	rax, rbx
	call	decimal
	say	"\n"
3:	lea	rax, [r12 + 1]			# another one for each vCPU
	movabs	rcx, 0x9e3779b97f4a7c15
	imul	rax, rcx
	xor	rbx, rax
	or	rbx, 1

next:	cld
	dec	rbp
	js	done
	call	random
	and	eax, 15
	lea	rcx, [rip + attacks]
	movsxd	rax, dword ptr [rcx + 4 * rax]
	add	rax, rcx
	call	rax
	jmp	next

done:	test	r12d, r12d
	jnz	park
	say	"done\n"
	xor	eax, eax
	jmp	quit

# recover is where every vector leads to. It gives the attack up. IRET lets NMIs in again.
recover:
	mov	rsp, r14
	call	restore
	push	0
	push	r14
	push	2
	push	0x10
	lea	rax, [rip + next]
	push	rax
	iretq

# restore gives the control registers their values.
restore:
	mov	rax, [rip + saved]
	mov	cr0, rax
	mov	rax, [rip + saved + 8]
	mov	cr3, rax
	mov	rax, [rip + saved + 16]
	mov	cr4, rax
	ret

# random returns 64 random bits in rax (xorshift, Marsaglia 2003) and changes nothing else.
random:	push	rcx
	mov	rcx, rbx
	shl	rcx, 13
	xor	rbx, rcx
	mov	rcx, rbx
	shr	rcx, 7
	xor	rbx, rcx
	mov	rcx, rbx
	shl	rcx, 17
	xor	rbx, rcx
	pop	rcx
	mov	rax, rbx
	ret

# seldom returns with the zero flag set one time in a thousand.
seldom:	call	random
	shr	rax, 20
	test	eax, 1023
	ret

# scramble puts random bits, or numbers at an edge, into rax, rcx, rdx, rsi and r8 to r11.
scramble:
	.irp	r, rcx, rdx, rsi, r8, r9, r10, r11
	call	value
	mov	\r, rax
	.endr
# value returns in rax a random number, a power of two, -1, 0, or an address in RAM with a
# bit that often means "on".
value:	push	rcx
	call	random
	mov	ecx, eax
	shr	eax, 8
	and	eax, 7
	choose	1f, 2f, 3f, 4f
	call	random
	jmp	5f
1:	mov	eax, 1
	shl	rax, cl
	jmp	5f
2:	mov	rax, -1
	jmp	5f
3:	xor	eax, eax
	jmp	5f
4:	call	random
	and	eax, ARENA - 4096
	add	rax, [rip + arena]
	or	eax, 1
5:	pop	rcx
	ret

# target returns in rdi an address: in RAM, at its end, in a hole, among devices, or where
# the page tables are random.
target:	call	random
	mov	rdi, rax
	shr	rdi, 32
	and	eax, 7
	choose	1f, 2f, 3f, 4f
	and	edi, ARENA - 1
	add	rdi, [rip + arena]
	ret
1:	and	edi, 31
	neg	rdi
	add	rdi, [rip + arena]
	add	rdi, ARENA
	ret
2:	and	edi, 0x3fffffff
	mov	eax, HOLE
	jmp	5f
3:	and	edi, 0x1ffffff
	mov	eax, DEVICES
	jmp	5f
4:	and	edi, 0x1fffff
	movabs	rax, LOST
	add	rdi, rax
	ret
5:	add	rdi, rax
	mov	eax, edi			# INIT and SMI by the ICR mostly end this vCPU
	and	eax, 0xffffff80
	cmp	eax, APIC + 0x300
	jne	6f
	call	seldom
	jz	6f
	add	rdi, 0x80
6:	ret

# port returns in edx a port that doesn't end the guest, and isn't the console's.
port:	call	random
	movzx	edx, ax
	bt	eax, 31
	jc	1f
	and	edx, 31
	lea	rcx, [rip + ports]
	movzx	edx, word ptr [rcx + 2 * rdx]
1:	cmp	edx, 0x64
	je	port
	cmp	edx, 0x505			# pvpanic
	je	port
	cmp	edx, 0xcf9			# reset
	je	port
	mov	eax, edx
	and	eax, 0xff8
	cmp	eax, CONSOLE
	je	port
	mov	eax, edx
	shr	eax, 8
	cmp	eax, 6				# power, and the VMM's own
	je	port
	ret

# Attacks. They may change all registers but rbx, rbp and r12 to r15.

read_msr:
	call	msr
	rdmsr
	ret

write_msr:
	call	msr
	call	value
	mov	rdx, rax
	shr	rdx, 32
	wrmsr
	ret

# msr returns one in ecx: of a block that somebody uses.
msr:	call	random
	mov	ecx, eax
	and	ecx, 0x1fff
	shr	rax, 32
	and	eax, 7
	lea	rdx, [rip + blocks]
	add	ecx, [rdx + 4 * rax]
	cmp	ecx, 0x830			# the ICR of the x2APIC: see target
	je	msr
	cmp	ecx, 0x1b			# the APIC's base
	jne	1f
	call	seldom
	jnz	msr
1:	ret

ports_in:
	call	port
	call	random
	shr	rax, 40
	and	eax, 3
	choose	1f, 2f
	in	eax, dx
	ret
1:	in	al, dx
	ret
2:	in	ax, dx
	ret

ports_out:
	call	port
	call	value
	mov	rcx, rax
	call	random
	shr	rax, 40
	and	eax, 3
	xchg	rax, rcx
	jrcxz	1f
	dec	ecx
	jz	2f
	out	dx, eax
	ret
1:	out	dx, al
	ret
2:	out	dx, ax
	ret

# String instructions, to and from everywhere, in both directions.
strings:
	call	target
	call	port
	call	random
	mov	rcx, rax
	and	ecx, 31				# elements; each may be an exit
	test	eax, 0x3f00
	jnz	8f
	shl	ecx, 6
8:	bt	rax, 40
	jnc	1f
	std
1:	mov	rsi, rdi
	shr	rax, 41
	and	eax, 7
	choose	2f, 3f, 4f, 5f, 6f, 7f
	mov	r8, rcx
	push	rsi
	call	target
	pop	rsi
	mov	rcx, r8
	rep movsb
	ret
2:	rep insb
	ret
3:	rep insw
	ret
4:	rep insd
	ret
5:	rep outsb
	ret
6:	rep outsd
	ret
7:	rep stosq
	ret

accesses:
	call	target
	call	value
	mov	rcx, rax
	call	random
	shr	rax, 33
	and	eax, 15
	lea	rdx, [rip + access]
	movsxd	rax, dword ptr [rdx + 4 * rax]
	add	rdx, rax
	mov	rax, rcx
	jmp	rdx

	.macro	accesses_by n, instruction:vararg
access_\n:
	\instruction
	ret
	.endm

# KVM can't emulate these on memory that isn't there, which ends the guest.
	.macro	rarely label, instruction:vararg
\label:
	push	rax
	call	seldom
	pop	rax
	jnz	1f
	\instruction
1:	ret
	.endm
	accesses_by 0, mov al, [rdi]
	accesses_by 1, mov ax, [rdi]
	accesses_by 2, mov eax, [rdi]
	accesses_by 3, mov rax, [rdi]
	accesses_by 4, mov [rdi], al
	accesses_by 5, mov [rdi], ax
	accesses_by 6, mov [rdi], eax
	accesses_by 7, mov [rdi], rax
	accesses_by 8, movups xmm0, [rdi]
	accesses_by 9, movups [rdi], xmm0
	accesses_by 10, lock xadd [rdi], rax
	rarely access_11, lock cmpxchg16b [rdi]
	accesses_by 12, movnti [rdi], rax
	rarely access_13, fxsave [rdi]
	rarely access_14, clflush [rdi]
	accesses_by 15, lock bts qword ptr [rdi], rax

hypercalls:
	push	rbx
	call	scramble
	and	eax, 15
	bt	ecx, 3
	jc	1f
	vmcall
	pop	rbx
	ret
1:	vmmcall
	pop	rbx
	ret

# Instructions of nested guests, of enclaves, and others of the system.
nested:	call	target
	call	scramble
	mov	rax, rdi
	mov	r8, rcx
	and	r8d, 31
	lea	r9, [rip + instructions]
	movsxd	r8, dword ptr [r9 + 4 * r8]
	add	r9, r8
	jmp	r9

	.macro	instruction n, text:vararg
instruction_\n:
	\text
	ret
	.endm
	instruction 0, vmxon [rdi]
	instruction 1, vmptrld [rdi]
	instruction 2, vmclear [rdi]
	instruction 3, vmlaunch
	instruction 4, vmread rax, rcx
	instruction 5, vmwrite rax, rcx
	instruction 6, vmrun
	instruction 7, vmload
	instruction 8, vmsave
	instruction 9, stgi
	instruction 10, clgi
	instruction 11, invlpga
	instruction 12, skinit
	instruction 13, invept rax, [rdi]
	instruction 14, invvpid rax, [rdi]
	rarely instruction_15, invpcid rax, [rdi]
	instruction 16, xsetbv
	instruction 17, rdpmc
	instruction 18, monitor
	instruction 19, wbinvd
	instruction 20, invd
	instruction 21, invlpg [rdi]
	instruction 22, getsec
	instruction 23, encls
	rarely instruction_24, xsave [rdi]
	rarely instruction_25, xrstor [rdi]
	instruction 26, rdtscp
	instruction 27, ltr ax
	instruction 28, lldt ax
	instruction 29, rsm
	instruction 30, vmfunc
	instruction 31, syscall

cpuids:	push	rbx
	call	scramble
	and	eax, 0xc000003f
	and	ecx, 31
	cpuid
	pop	rbx
	ret

# Control registers. Those that leave long mode fault. CR8 is left out: QEMU (TCG) fails an
# assertion of its own when a nested guest writes it.
controls:
	call	value
	mov	rcx, rax
	call	random
	shr	rax, 30
	and	eax, 7
	choose	1f, 2f, 3f
	mov	dr0, rcx
	ret
1:	xor	rcx, [rip + saved]
	bts	rcx, 31
	mov	cr0, rcx
	jmp	restore
2:	xor	rcx, [rip + saved + 16]
	mov	cr4, rcx
	jmp	restore
3:	mov	dr7, rcx
	jmp	restore

# walks changes an entry of this vCPU's own tables, and has the CPU walk them.
walks:	call	value
	mov	rcx, rax
	call	random
	mov	rdx, rax
	and	edx, 0xff8			# the entry of the last table
	bt	rax, 20
	jc	1f
	xor	edx, edx			# the first one of any table
1:	shr	rax, 21
	and	eax, 3
	cmp	eax, 3
	jne	2f
	mov	eax, 2
2:	shl	eax, 12
	add	rdx, rax
	add	rdx, [rip + tables]
	or	rcx, 1
	mov	[rdx], rcx
	mov	rax, cr3
	mov	cr3, rax
	call	random
	and	eax, 0x1fffff
	movabs	rdi, LOST
	add	rdi, rax
	call	random
	bt	eax, 7
	jc	3f
	mov	[rdi], rax
	jmp	4f
3:	mov	rax, [rdi]
4:	jmp	fresh

# IPIs to oneself and others, and interrupts taken.
ipis:	mov	edi, APIC
	call	random
	mov	ecx, eax
	and	ecx, 0xff
	or	ecx, 1 << 18			# to this vCPU
	bt	eax, 20
	jnc	1f
	xor	ecx, 0xc0000			# to all, or to all others
1:	bt	eax, 21
	jnc	2f
	or	ecx, 4 << 8			# an NMI
2:	mov	[rdi + 0x300], ecx
	mov	dword ptr [rdi + 0xf0], 0x1ff	# on
	mov	dword ptr [rdi + 0xb0], 0	# EOI
	sti
	nop
	pause
	cli
	ret

# Registers of the APIC, the timer's among them.
apic:	mov	edi, APIC
	call	random
	mov	ecx, eax
	and	ecx, 0xff0
	cmp	ecx, 0x300
	jne	1f
	call	seldom
	jnz	2f
1:	call	value
	mov	[rdi + rcx], eax
2:	ret

exceptions:
	call	random
	shr	eax, 13
	and	eax, 7
	choose	1f, 2f, 3f, 4f, 5f, 6f
	ud2
1:	int3
	ret
2:	.byte	0xf1				# INT1
	ret
3:	int	2
	ret
4:	int	8
	ret
5:	int	18
	ret
6:	xor	edx, edx
	xor	ecx, ecx
	div	ecx
	ret

# A jump to where no memory is: KVM can't emulate that, and the guest ends.
astray:	call	seldom
	jnz	1f
	call	seldom
	jnz	1f
	call	target
	call	rdi
1:	ret

	.macro	offsets label, list:vararg
\label:
	.irp	to, \list
	.long	\to - \label
	.endr
	.endm

	.section .rodata
	.balign	4
	offsets	attacks, read_msr, write_msr, write_msr, ports_in, ports_out, strings, accesses, accesses, hypercalls, nested, cpuids, controls, walks, ipis, apic, mixed
	offsets	access, access_0, access_1, access_2, access_3, access_4, access_5, access_6, access_7, access_8, access_9, access_10, access_11, access_12, access_13, access_14, access_15
	offsets	instructions, instruction_0, instruction_1, instruction_2, instruction_3, instruction_4, instruction_5, instruction_6, instruction_7, instruction_8, instruction_9, instruction_10, instruction_11, instruction_12, instruction_13, instruction_14, instruction_15, instruction_16, instruction_17, instruction_18, instruction_19, instruction_20, instruction_21, instruction_22, instruction_23, instruction_24, instruction_25, instruction_26, instruction_27, instruction_28, instruction_29, instruction_30, instruction_31
blocks:	.long	0, 0x1000, 0x40000000, 0x4b564d00, 0xc0000000, 0xc0010000, 0xc0011000, 0x400
ports:	.word	0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x70, 0x71, 0x80, 0x92
	.word	0xcf8, 0xcf8, 0xcfc, 0xcfd, 0xcfe, 0xcf8, 0xcfc, 0xcfc, 0xf0, 0x87, 0x3f0, 0x1f0, 0x170, 0xcfc, 0xe0, 0xeb
	.text

mixed:	call	random
	bt	eax, 19
	jc	exceptions
	jmp	astray

# table gives this vCPU tables of its own at LOST, finds the arena, and saves the control
# registers. All vCPUs share the first table, and the last one's tables win.
table:	mov	rax, [r13 + INFO_TABLE + 8]
	sub	rax, ARENA
	mov	[rip + arena], rax
	mov	rax, [r13 + INFO_TABLE]
	mov	[rip + tables], rax
	mov	rax, cr0
	mov	[rip + saved], rax
	mov	rax, cr3
	mov	[rip + saved + 8], rax
	mov	rax, cr4
	mov	[rip + saved + 16], rax
# fresh links the tables at LOST again, the last of which maps the arena.
fresh:	mov	rdi, [rip + tables]
	mov	rcx, [rip + saved + 8]
	lea	rax, [rdi + 3]
	mov	[rcx + 8], rax
	lea	rax, [rdi + 0x1003]
	mov	[rdi], rax
	lea	rax, [rdi + 0x2003]
	mov	[rdi + 0x1000], rax
	add	rdi, 0x2000
	mov	rax, [rip + arena]
	add	rax, 3
	mov	ecx, 512
1:	mov	[rdi], rax
	add	rax, 4096
	add	rdi, 8
	loop	1b
	ret

# traps loads an interrupt table whose vectors all lead to recover.
traps:	lea	rdi, [rip + idt]
	lea	rdx, [rip + recover]
	mov	ecx, 256
1:	mov	[rdi], dx
	mov	dword ptr [rdi + 2], 0x10
	mov	byte ptr [rdi + 5], 0x8e
	mov	rax, rdx
	shr	rax, 16
	mov	[rdi + 6], ax
	shr	rax, 16
	mov	[rdi + 8], eax
	add	rdi, 16
	loop	1b
	lea	rax, [rip + idt]
	mov	[rip + idtr + 2], rax
	lidt	[rip + idtr]
	ret

	.data
	.balign	16
idt:	.zero	256 * 16
idtr:	.word	256 * 16 - 1
	.quad	0
saved:	.quad	0, 0, 0
arena:	.quad	0
tables:	.quad	0
