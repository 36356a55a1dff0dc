# uncached: what memory costs that the CPU mustn't cache.
#
# Argument 0: address of two buffers of 2 MiB, one after the other and aligned
#             to their size; default the first such in free RAM
# Argument 1: accesses of each kind, default 65536
#
# The loader maps the second buffer uncached (PCD and PWT in its page table
# entry; index 3 of the PAT). Nothing in here does, so with a loader that
# doesn't, the two are the same. The first vCPU reads and writes 64-bit words of
# each, in sequence and at random, and says the cycles of each by the TSC
# (payload.UncachedReport).
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

	.set BUFFERS,    INFO_ARGS
	.set ACCESSES,   INFO_ARGS + 8
	.set SIZE,       2 << 20
	.set WORD_BITS,  18			# words of a buffer
	.set MULTIPLIER, 0x9e3779b97f4a7c15

# timed INSTRUCTION, RANDOM says what it costs to run the instruction for word
# after word, rbx + 8 * rax, of the buffer. Fences wait for its stores, too.
	.macro	timed instruction, random
	mfence
	call	cycles
	mov	rbp, rax
	mov	r8, [r13 + ACCESSES]
	xor	ecx, ecx
9:	mov	rax, rcx
	.if	\random
	imul	rax, r14
	shr	rax, 64 - WORD_BITS
	.else
	and	eax, (1 << WORD_BITS) - 1
	.endif
	\instruction
	inc	rcx
	cmp	rcx, r8
	jb	9b
	mfence
	call	cycles
	sub	rax, rbp
	mov	rbp, rax
	say	" "
	mov	rax, rbp
	call	decimal
	.endm

main:	entry
	test	r12d, r12d
	jnz	park
	cmp	qword ptr [r13 + ACCESSES], 0
	jne	1f
	mov	qword ptr [r13 + ACCESSES], 65536
1:	mov	rbx, [r13 + BUFFERS]
	test	rbx, rbx
	jnz	2f
	mov	rbx, [r13 + INFO_TABLE]
	add	rbx, SIZE - 1
	and	rbx, -SIZE
2:	mov	rdi, rbx			# give both their pages
	mov	ecx, 2 << WORD_BITS
	xor	eax, eax
	rep stosq
	movabs	r14, MULTIPLIER

	call	userland
	say	"uncached: "
	mov	rax, [r13 + ACCESSES]
	call	decimal
	say	" accesses, first buffer"
	call	all
	add	rbx, SIZE
	say	", second"
	call	all
	say	" cycles\n"
	xor	eax, eax
	jmp	quit

all:	timed	"mov rdx, [rbx + 8 * rax]", 0
	timed	"mov [rbx + 8 * rax], rcx", 0
	timed	"mov rdx, [rbx + 8 * rax]", 1
	timed	"mov [rbx + 8 * rax], rcx", 1
	ret
