# touch: writes all RAM that the payload doesn't occupy itself and checks it.
#
# Three passes over all ranges: write a pattern made from the address, verify
# and invert it, verify the inverse. The vCPUs share the pages out among them
# and move on by one share each pass, so that with two or more no vCPU checks
# what it wrote itself. They meet at a barrier after each pass.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "pages.inc"

main:	entry
	mov	ebp, [r13 + INFO_CPUS]
	mov	r14, r12			# share of this pass
	test	r12d, r12d
	jnz	1f
	call	userland
1:	lea	r15, [rip + fill]
	call	pass
	test	r12d, r12d
	jnz	2f
	say	"touch: written, verifying\n"
2:	lea	r15, [rip + invert]
	call	pass
	lea	r15, [rip + verify]
	call	pass

	test	r12d, r12d
	jnz	park
	say	"touch: "
	call	count
	shr	rax, 8
	call	decimal
	say	" MiB ok\n"
	xor	eax, eax
	jmp	quit

# pass runs the function at r15 over this vCPU's share of every range, waits
# for the others, and reports what any of them found wrong.
# r15 gets rdi = first address, rsi = end, rax = pattern of the first word and
# rdx = what the pattern grows by each word; it may change rcx as well.
pass:	xor	ebx, ebx			# range
1:	mov	rcx, rbx
	shl	rcx, 4
	lea	rcx, [r13 + rcx + INFO_TABLE]
	mov	r8, [rcx]			# start
	mov	r9, [rcx + 8]
	sub	r9, r8
	shr	r9, 12				# pages
	mov	rax, r9
	mul	r14
	div	rbp
	shl	rax, 12
	lea	rdi, [r8 + rax]
	lea	rcx, [r14 + 1]
	mov	rax, r9
	mul	rcx
	div	rbp
	shl	rax, 12
	lea	rsi, [r8 + rax]
	cmp	rdi, rsi
	jae	2f
	movabs	rdx, MULTIPLIER
	mov	rax, rdi
	imul	rax, rdx
	shl	rdx, 3
	call	r15
2:	inc	ebx
	cmp	ebx, [r13 + INFO_RANGES]
	jb	1b

	inc	r14				# the next vCPU's share is ours next
	cmp	r14, rbp
	jb	3f
	xor	r14d, r14d
3:	call	barrier
	cmp	qword ptr [rip + bad], 0
	je	4f
	test	r12d, r12d
	jnz	park
	say	"touch: mismatch at "
	mov	rax, [rip + bad]
	call	hex
	say	"\n"
	mov	al, 1
	jmp	quit
4:	ret

fill:	mov	[rdi], rax
	add	rax, rdx
	add	rdi, 8
	cmp	rdi, rsi
	jb	fill
	ret

invert:	cmp	[rdi], rax
	jne	wrong
	not	qword ptr [rdi]
	add	rax, rdx
	add	rdi, 8
	cmp	rdi, rsi
	jb	invert
	ret

verify:	mov	rcx, rax
	not	rcx
	cmp	[rdi], rcx
	jne	wrong
	add	rax, rdx
	add	rdi, 8
	cmp	rdi, rsi
	jb	verify
	ret

# wrong keeps the first bad address; no range holds address 0.
wrong:	xor	eax, eax
	lock cmpxchg [rip + bad], rdi
	ret

	.data
	.balign	64
bad:	.quad	0
