# churn: how fast a working set is touched.
#
# Argument 0: bytes of the working set, from the start of free RAM; default all
# Argument 1: rounds that are measured, default 4
# Argument 2: bit 0: in a pseudo-random order, a new one each round
#             bit 1: only read; otherwise what is touched is read and written
# Argument 3: words touched in each page, 64 bytes apart; 1 to 64, default 64
#
# Each vCPU has a share of the working set to itself. Two rounds warm up; then
# the payload reports userland, and vCPU 0 measures from one barrier of all to
# another, by the TSC. It says "churn: R rounds over N pages, T cycles"
# (payload.ChurnReport).
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "pages.inc"

	.set ROUNDS, INFO_ARGS + 8
	.set MODE,   INFO_ARGS + 16
	.set WORDS,  INFO_ARGS + 24
	.set RANDOM, 1
	.set READ,   2
	.set WARMUP, 2

main:	entry
	test	r12d, r12d
	jnz	2f
	cmp	qword ptr [r13 + ROUNDS], 0
	jne	0f
	mov	qword ptr [r13 + ROUNDS], 4
0:	mov	rax, [r13 + WORDS]
	dec	rax				# the default is the largest number
	cmp	rax, 64
	jb	1f
	mov	qword ptr [r13 + WORDS], 64
1:	call	working
	mov	[rip + pages], rbx
2:	call	barrier
	mov	rbx, [rip + pages]
	call	share
	lea	r15, [rip + write]
	test	byte ptr [r13 + MODE], READ
	jz	3f
	lea	r15, [rip + read]

3:	xor	r14d, r14d			# round
	lea	rax, [r14 + WARMUP]
	call	rounds
	call	barrier
	test	r12d, r12d
	jnz	4f
	call	userland
4:	call	barrier
	call	cycles
	push	rax
	mov	rax, [r13 + ROUNDS]
	call	rounds
	call	barrier
	call	cycles
	pop	rbx
	sub	rax, rbx
	mov	rbx, rax

	test	r12d, r12d
	jnz	park
	say	"churn: "
	mov	rax, [r13 + ROUNDS]
	call	decimal
	say	" rounds over "
	mov	rax, [rip + pages]
	call	decimal
	say	" pages, "
	mov	rax, rbx
	call	decimal
	say	" cycles\n"
	xor	eax, eax
	jmp	quit

# rounds makes rax rounds, one or more, from number r14 on.
rounds:	push	rax
1:	xor	r11d, r11d
	test	byte ptr [r13 + MODE], RANDOM
	jz	2f
	mov	rax, r14
	call	key
2:	call	walk
	inc	r14
	dec	qword ptr [rsp]
	jnz	1b
	pop	rax
	ret

write:	mov	ecx, [r13 + WORDS]
1:	inc	qword ptr [rdi]
	add	rdi, 64
	dec	ecx
	jnz	1b
	ret

read:	mov	ecx, [r13 + WORDS]
1:	mov	rax, [rdi]
	add	rdi, 64
	dec	ecx
	jnz	1b
	ret

	.data
	.balign	64
pages:	.quad	0
