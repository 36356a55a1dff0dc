# hello: every vCPU says a line, one after the other.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

main:	entry
	lea	rbx, [rip + turn]
1:	cmp	dword ptr [rbx], r12d
	je	2f
	pause
	jmp	1b

2:	test	r12d, r12d
	jnz	3f
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

	# Only the vCPU whose turn it is writes turn: a plain store will do.
	inc	dword ptr [rbx]
	test	r12d, r12d
	jnz	park
	mov	ecx, [r13 + INFO_CPUS]
4:	cmp	dword ptr [rbx], ecx
	je	5f
	pause
	jmp	4b
5:	xor	eax, eax
	jmp	quit

	.data
	.balign	64
turn:	.long	0
