# probe: writes and reads a word in each page from rdi to rsi. No stack, no
# info block: it must fit into as few pages as possible.
	.intel_syntax noprefix
	.code64
	.text
	.globl	_start
_start:	mov	[rdi], rdi
	cmp	[rdi], rdi
	jne	2f
	add	rdi, 4096
	cmp	rdi, rsi
	jb	_start
	xor	eax, eax
1:	mov	edx, 0x6f1
	out	dx, al
	pause
	jmp	1b
2:	mov	al, 1
	jmp	1b
