# shuffle: all vCPUs update the same pages, all of free RAM, in random order,
# and no update may be lost or torn.
#
# Argument 0: passes, default 3.
#
# A pass visits every page once on every vCPU, in an order of that pass and
# vCPU. RAM starts as zeros. Whatever is lost shows in the next pass or after
# the last one, when the vCPUs meet and each checks a share of the pages. It
# says "shuffle: N pages, P passes ok", or what it found wrong, with address,
# and exits with code 1. A page holds
#
#	0	a word of each vCPU's own, which it checks and writes
#	RECORD	number of updates and a check on it, changed together, locked
#	COUNTER	number of updates, locked
#	-8	down from the end, one more word of each vCPU's own
#
# so that the words of up to eight vCPUs lie in the first and last cache line.
# A vCPU writes its first word before its last one: another that sees the
# last one updated and then looks at the first one must find it updated too
# (Intel SDM vol. 3, "Memory Ordering").
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "pages.inc"
	.include "check.inc"

	.set PASSES,  INFO_ARGS
	.set RECORD,  2032		# after 254 words, and on 16 bytes
	.set COUNTER, 2048
	.set LAST,    4088

main:	entry
	test	r12d, r12d
	jnz	1f
	cmp	qword ptr [r13 + PASSES], 0
	jne	0f
	mov	qword ptr [r13 + PASSES], 3
0:	call	userland
1:	call	barrier
	call	count
	mov	rbx, rax
	xor	ebp, ebp
	xor	r14d, r14d			# pass
	lea	r15, [rip + update]
2:	inc	r14
	mov	rax, r14
	call	key
	call	walk
	cmp	r14, [r13 + PASSES]
	jb	2b

	call	barrier
	call	share
	xor	r11d, r11d
	lea	r15, [rip + final]
	call	walk
	call	barrier
	test	r12d, r12d
	jnz	park
	say	"shuffle: "
	call	count
	call	decimal
	say	" pages, "
	mov	rax, r14
	call	decimal
	say	" passes ok\n"
	xor	eax, eax
	jmp	quit

# update is pass r14 over the page at rdi.
update:	lea	rsi, [rdi + 8 * r12]
	call	own

	lea	rsi, [rdi + RECORD]
	movabs	r8, MULTIPLIER
	imul	r8, rsi
	mov	rax, [rsi]			# these two may not belong together,
	mov	rdx, [rsi + 8]			# but then they aren't replaced
	push	rbx
1:	lea	rbx, [rax + 1]
	lea	rcx, [r8 + rbx]
	lock cmpxchg16b [rsi]
	jne	1b
	lea	rcx, [rbx - 1]
	pop	rbx
	call	value
	expect	"record"

	lock inc qword ptr [rdi + COUNTER]

	mov	r8, r12
	call	last
	call	own

	# The next vCPU's words, the one that it writes last first: the other
	# must have as many updates, or more.
	lea	r8, [r12 + 1]
	cmp	r8d, [r13 + INFO_CPUS]
	jb	2f
	xor	r8d, r8d
2:	call	last
	call	updates
	push	rcx
	lea	rsi, [rdi + 8 * r8]
	call	updates
	pop	rax
	cmp	rcx, rax
	cmovb	rcx, rax
	cmp	rcx, [r13 + PASSES]
	cmova	rcx, [r13 + PASSES]
	call	value
	expect	"word behind a later one"
	ret

# own checks and writes this vCPU's own word at rsi.
own:	mov	rdx, [rsi]
	lea	rcx, [r14 - 1]
	call	value
	expect	"word"
	mov	rcx, r14
	call	value
	mov	[rsi], rax
	ret

# last returns in rsi the address of the last word of vCPU r8.
last:	mov	rax, r8
	neg	rax
	lea	rsi, [rdi + 8 * rax + LAST]
	ret

# updates returns in rdx the word at rsi, and in rcx of which update it is: the
# inverse of value for words that value makes.
updates:
	mov	rdx, [rsi]
	xor	ecx, ecx
	test	rdx, rdx
	jz	1f
	movabs	rax, MULTIPLIER
	imul	rax, rsi
	mov	rcx, rdx
	sub	rcx, rax
1:	ret

# final checks the page at rdi after all passes.
final:	mov	eax, [r13 + INFO_CPUS]
	imul	rax, r14
	lea	rsi, [rdi + COUNTER]
	mov	rdx, [rsi]
	expect	"counter"
	lea	rsi, [rdi + RECORD]
	mov	rdx, [rsi]
	expect	"record's number"
	mov	rcx, rax
	call	value
	mov	rdx, [rsi + 8]
	expect	"record's check"
	mov	r8d, [r13 + INFO_CPUS]
1:	dec	r8
	lea	rsi, [rdi + 8 * r8]
	mov	rdx, [rsi]
	mov	rcx, r14
	call	value
	expect	"final word"
	call	last
	mov	rdx, [rsi]
	mov	rcx, r14
	call	value
	expect	"final word"
	test	r8, r8
	jnz	1b
	ret

	.section .rodata
name:	.asciz	"shuffle"
