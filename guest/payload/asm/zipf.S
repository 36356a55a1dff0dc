# zipf: accesses of which most go to few pages, and those lie scattered.
#
# Argument 0: bytes of the working set, from the start of free RAM; default all
# Argument 1: accesses of each vCPU, default 8 for each page
# Argument 2: skew, 1 to 256, default 223
# Argument 3: accesses of each vCPU before those that are measured, which come
#             after a look at each page; default none, and no look
#
# An access has the choice of all pages, and with a probability of skew/256 goes
# on to the more popular half of its choice, again and again; then it takes any
# page of what is left. That is about Zipf's law with an exponent of
# 1 + log2(skew/256): 0.8 by default, 0.9 with 239. With 256 one page gets it
# all; up to 128 no page stands out much.
#
# It reports userland when it starts to measure, by the TSC of vCPU 0.
#
# All vCPUs share the pages. On each page each has a number of accesses of its
# own and a check on it; it checks both at each access, and in the end that the
# numbers add up. The payload says "zipf: A accesses to N pages, T cycles"
# (payload.ZipfReport) with the accesses of all vCPUs that were measured, or what
# it found wrong, and exits with code 1.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "pages.inc"
	.include "check.inc"

	.set ACCESSES, INFO_ARGS + 8
	.set SKEW,     INFO_ARGS + 16
	.set WARMUP,   INFO_ARGS + 24

main:	entry
	test	r12d, r12d
	jnz	2f
	call	working
	mov	[rip + pages], rbx
	shl	rbx, 3
	cmp	qword ptr [r13 + ACCESSES], 0
	jne	0f
	mov	[r13 + ACCESSES], rbx
0:	cmp	qword ptr [r13 + SKEW], 0
	jne	2f
	mov	qword ptr [r13 + SKEW], 223
2:	call	barrier
	mov	rbx, [rip + pages]
	lea	r15, [rip + tally]
	cmp	qword ptr [r13 + WARMUP], 0
	je	4f
	xor	ebp, ebp
	xor	r11d, r11d
	call	walk
4:	call	spread
	mov	eax, 1
	call	key
	mov	r14, r11			# random numbers, other ones on each vCPU
	movabs	r11, MULTIPLIER			# popularity to page, the same for all

	mov	rbp, [r13 + WARMUP]
	call	accesses
	call	barrier
	test	r12d, r12d
	jnz	3f
	call	userland
3:	call	barrier
	call	cycles
	push	rax
	mov	rbp, [r13 + ACCESSES]
	call	accesses
	call	barrier
	call	cycles
	pop	rdx
	sub	rax, rdx
	push	rax

	# rbp is 0, where the list of pages starts.
	xor	r11d, r11d
	xor	r14d, r14d			# sum
	call	walk
	lea	rsi, [r13 + ACCESSES]
	mov	rax, [rsi]
	add	rax, [r13 + WARMUP]
	mov	rdx, r14
	expect	"sum of accesses"
	call	barrier
	test	r12d, r12d
	jnz	park
	say	"zipf: "
	mov	eax, [r13 + INFO_CPUS]
	imul	rax, [r13 + ACCESSES]
	call	decimal
	say	" accesses to "
	mov	rax, rbx
	call	decimal
	say	" pages, "
	pop	rax
	call	decimal
	say	" cycles\n"
	xor	eax, eax
	jmp	quit

# accesses makes rbp accesses, and leaves 0 in it.
accesses:
	test	rbp, rbp
	jz	2f
1:	call	access
	dec	rbp
	jnz	1b
2:	ret

# access takes a page and counts up on it.
access:	mov	r10, rbx			# pages to choose from
1:	cmp	r10, 1
	je	2f
	call	random
	shr	rax, 56
	cmp	rax, [r13 + SKEW]
	jae	2f
	inc	r10
	shr	r10, 1
	jmp	1b
2:	call	random
	mul	r10
	mov	rax, rdx
3:	call	scatter				# within the working set, sooner or later
	cmp	rax, rbx
	jae	3b
	call	page
	call	pair
	lea	rcx, [rdx + 1]
	call	value
	mov	[rsi], rcx
	mov	[rsi + 8], rax
	ret

# pair returns in rsi the address of this vCPU's words on the page at rdi, and
# in rdx its accesses to it so far.
pair:	lea	rsi, [rdi + 8 * r12]
	lea	rsi, [rsi + 8 * r12]
	mov	rcx, [rsi]
	mov	rdx, [rsi + 8]
	call	value
	expect	"check"
	mov	rdx, [rsi]
	ret

# tally adds this vCPU's accesses to the page at rdi to r14.
tally:	call	pair
	add	r14, rdx
	ret

# random returns 64 pseudo-random bits in rax (Marsaglia's xorshift).
random:	mov	rax, r14
	shl	rax, 13
	xor	r14, rax
	mov	rax, r14
	shr	rax, 7
	xor	r14, rax
	mov	rax, r14
	shl	rax, 17
	xor	r14, rax
	mov	rax, r14
	ret

	.data
	.balign	64
pages:	.quad	0

	.section .rodata
name:	.asciz	"zipf"
