# hello: every vCPU says a line, one at a time, in any order: a vCPU that waited
# for one of them would wait for the host to run that one.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

main:	entry
1:	lock bts dword ptr [rip + busy], 0
	jnc	2f
	pause
	jmp	1b

2:	cmp	dword ptr [rip + said], 0
	jne	3f
	call	userland
3:	say	"hello from vCPU "
	mov	rax, r12
	call	decimal
	say	" of "
	mov	eax, [r13 + INFO_CPUS]
	call	decimal
	say	", "
	mov	rax, [r13 + INFO_RAM]
	shr	rax, 20
	call	decimal
	say	" MiB of RAM\n"

	inc	dword ptr [rip + said]
	mov	ecx, [rip + said]
	mov	dword ptr [rip + busy], 0
	cmp	ecx, [r13 + INFO_CPUS]
	jb	park
	xor	eax, eax
	jmp	quit

	.data
	.balign	64
busy:	.long	0
said:	.long	0
