# bench: measures memory accesses, by a program of operations.
#
# Argument 0: address of the program (payload.Bench, whose layout this repeats)
#
# All vCPUs go through the program together: each has a share of an operation's
# memory to itself, and they meet before and after it. An operation either
# prepares memory or is measured. One that is measured goes on for at least the
# cycles that the program gives it; it looks at the time after a first stretch,
# then after as much again, and so on, so that looking costs nothing and it
# takes little more than twice its time. Then it checks what it has done: sums,
# contents, or where it has come to. What was measured, in cycles of the TSC and
# bytes or accesses, goes back into the program; what a check finds wrong to
# the console, and the guest ends with exit code 1.
#
# Around it all vCPU 0 writes payload.EventMark to the event port a few times
# and keeps the TSC from right before and right after each, for the host to
# compare with its own clock.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "check.inc"

	.set MARK, 2				# payload.EventMark

	.set COUNT,   0				# operations
	.set LEAST,   8				# cycles between the marks
	.set RESULTS, 16			# their address
	.set MARKS,   64			# before and after, at the start and at the end
	.set MARKINGS, 8			# at each
	.set OPS,     320

	.set OP_SHIFT,  6			# of an operation, and of a result
	.set OP_KIND,   0
	.set OP_BASE,   8			# address
	.set OP_SIZE,   16			# bytes, of all vCPUs
	.set OP_STRIDE, 24			# link, scatter, chase: bytes a node
	.set OP_CYCLES, 32			# at least

	.set R_START, 0				# TSC
	.set R_END,   8
	.set R_UNITS, 16			# bytes or accesses

	.set MULTIPLIER, 0x9e3779b97f4a7c15	# as in pages.inc

# What there is on the stack while an operation runs.
	.set INDEX,    0			# of the operation
	.set UNITS,    8			# done
	.set STRETCH,  16			# units between two looks at the time
	.set LEFT,     24			# of that
	.set POSITION, 32			# bytes from the start of the share
	.set LENGTH,   40			# of this call
	.set KIND,     48			# address of its line of the table
	.set KERNEL,   56			# address
	.set BEGAN,    64			# TSC
	.set FRAME,    72

# In all that follows rbx is the start of this vCPU's share and rbp its size in
# bytes, r14 the program, r15 the operation, and r11 a byte repeated eight times
# that no other operation of the program has: what those that write write.
#
# Of each kind there are up to three functions. begin sets memory up, and the
# registers r8, r9 and r10 for the second. kernel is what is measured: it is
# called with rdi = address, rsi = where to copy to, and rcx = bytes to go over,
# or rcx = accesses to make, and may change rax, rcx, rdx, rsi, rdi and vector
# registers; what it keeps in r8 to r10 stays. check is called with rcx = units
# done.
	.macro	kind begin, kernel, check, flags
	.long	\begin - kinds, \kernel - kinds, \check - kinds, \flags
	.endm
	.set KIND_KERNEL, 4
	.set KIND_CHECK,  8
	.set KIND_FLAGS,  12
	.set ACCESSES, 1			# units are accesses anywhere in the share
	.set ONCE,     2			# goes over the share once at most
	.set NONE, kinds			# no such function

	.section .rodata
	.balign	16
# In the order of payload.BenchKinds.
kinds:
	kind	fill, NONE, NONE, 0				# fill
	kind	link, NONE, NONE, 0				# link
	kind	scatter, NONE, NONE, 0				# scatter
	kind	nothing, touch, check_touch, ONCE		# touch
	kind	begin_chase, chase, check_chase, ACCESSES	# chase
	kind	begin_random, random_read, check_random_read, ACCESSES	# random-read
	kind	begin_random, random_write, check_random_write, ACCESSES	# random-write
	kind	begin_read, read_8, check_read, 0		# read-8
	kind	begin_read, read_16, check_read, 0		# read-16
	kind	begin_read, read_32, check_read, 0		# read-32
	kind	nothing, write_8, check_write, 0		# write-8
	kind	nothing, write_16, check_write, 0		# write-16
	kind	nothing, write_32, check_write, 0		# write-32
	kind	nothing, write_rep, check_write, 0		# write-rep
	kind	nothing, write_nt, check_write, 0		# write-nt
	kind	nothing, copy_8, check_copy, 0		# copy-8
	kind	nothing, copy_16, check_copy, 0		# copy-16
	kind	nothing, copy_32, check_copy, 0		# copy-32
	kind	nothing, copy_rep, check_copy, 0		# copy-rep
	kind	nothing, copy_nt, check_copy, 0		# copy-nt
	.set KINDS, (. - kinds) / 16
	.text

main:	entry
	sub	rsp, FRAME
	mov	r14, [r13 + INFO_ARGS]
	cmp	r14, [r13 + INFO_TABLE]
	jb	misplaced
	test	r12d, r12d
	jnz	1f
	call	userland
	lea	rdi, [r14 + MARKS]
	call	marks
1:	mov	qword ptr [rsp + INDEX], 0

operation:
	call	barrier
	mov	rax, [rsp + INDEX]
	cmp	rax, [r14 + COUNT]
	jae	done
	lea	r11d, [rax + 1]			# fresh memory has 0
	movzx	r11d, r11b
	shl	rax, OP_SHIFT
	lea	r15, [r14 + rax + OPS]
	movabs	rax, 0x0101010101010101
	imul	r11, rax

	mov	rax, [r15 + OP_SIZE]
	xor	edx, edx
	mov	ecx, [r13 + INFO_CPUS]
	div	rcx
	and	rax, -4096
	mov	rbp, rax
	imul	rax, r12
	mov	rbx, [r15 + OP_BASE]
	add	rbx, rax

	mov	rax, [r15 + OP_KIND]
	cmp	rax, KINDS
	jae	unknown
	shl	rax, 4
	lea	rdx, [rip + kinds]
	add	rax, rdx
	mov	[rsp + KIND], rax
	movsxd	rcx, dword ptr [rax]
	add	rcx, rdx
	call	rcx
	lea	rdx, [rip + kinds]
	mov	rax, [rsp + KIND]
	movsxd	rcx, dword ptr [rax + KIND_KERNEL]
	test	ecx, ecx
	jz	5f
	add	rcx, rdx
	mov	[rsp + KERNEL], rcx
	mov	qword ptr [rsp + UNITS], 0
	mov	qword ptr [rsp + POSITION], 0
	mov	ecx, 64 << 10			# bytes at first,
	mov	edx, 255			# or accesses
	test	byte ptr [rax + KIND_FLAGS], ACCESSES
	cmovnz	ecx, edx
	mov	[rsp + STRETCH], rcx
	call	barrier
	call	cycles
	mov	[rsp + BEGAN], rax

1:	mov	rax, [rsp + STRETCH]
	mov	[rsp + LEFT], rax
2:	mov	rcx, [rsp + LEFT]
	mov	rdi, [rsp + POSITION]
	mov	rax, [rsp + KIND]
	test	byte ptr [rax + KIND_FLAGS], ACCESSES
	jnz	3f
	mov	rax, rbp			# no further than to the end
	sub	rax, rdi
	cmp	rcx, rax
	cmova	rcx, rax
	lea	rax, [rdi + rcx]		# and then from the start
	xor	edx, edx
	cmp	rax, rbp
	cmove	rax, rdx
	mov	[rsp + POSITION], rax
3:	mov	[rsp + LENGTH], rcx
	add	rdi, rbx
	mov	rsi, [r15 + OP_SIZE]
	add	rsi, rdi
	call	[rsp + KERNEL]
	mov	rcx, [rsp + LENGTH]
	add	[rsp + UNITS], rcx
	mov	rax, [rsp + KIND]
	test	byte ptr [rax + KIND_FLAGS], ONCE
	jz	4f
	cmp	qword ptr [rsp + POSITION], 0
	je	6f
4:	sub	[rsp + LEFT], rcx
	jnz	2b
	movzx	edx, byte ptr [rax + KIND_FLAGS]
	and	edx, ACCESSES			# accesses: always a power of two less 1,
	add	rdx, [rsp + UNITS]		# or a chase would end where it began
	mov	[rsp + STRETCH], rdx
	call	cycles
	sub	rax, [rsp + BEGAN]
	cmp	rax, [r15 + OP_CYCLES]
	jb	1b

6:	mfence					# stores count when they are done
	call	cycles
	mov	rdx, [rsp + INDEX]
	mov	ecx, [r13 + INFO_CPUS]
	imul	rdx, rcx
	add	rdx, r12
	shl	rdx, OP_SHIFT
	add	rdx, [r14 + RESULTS]
	mov	[rdx + R_END], rax
	mov	rax, [rsp + BEGAN]
	mov	[rdx + R_START], rax
	mov	rcx, [rsp + UNITS]
	mov	[rdx + R_UNITS], rcx
	mov	rax, [rsp + KIND]
	movsxd	rax, dword ptr [rax + KIND_CHECK]
	lea	rdx, [rip + kinds]
	add	rax, rdx
	call	rax
5:	inc	qword ptr [rsp + INDEX]
	jmp	operation

done:	test	r12d, r12d
	jnz	park
1:	call	cycles
	sub	rax, [r14 + MARKS]
	cmp	rax, [r14 + LEAST]
	jb	1b
	lea	rdi, [r14 + MARKS + 16 * MARKINGS]
	call	marks
	xor	eax, eax
	jmp	quit

# marks marks the time, with the TSC at rdi.
marks:	mov	esi, MARKINGS
1:	call	cycles
	mov	[rdi], rax
	mov	edx, EVENT
	mov	al, MARK
	out	dx, al
	call	cycles
	mov	[rdi + 8], rax
	add	rdi, 16
	dec	esi
	jnz	1b
	ret

misplaced:
	test	r12d, r12d
	jnz	park
	say	"bench: the program isn't in free RAM\n"
	mov	al, 2
	jmp	quit

unknown:
	test	r12d, r12d
	jnz	park
	say	"bench: an operation of no known kind\n"
	mov	al, 2
	jmp	quit

	.include "bench_stream.inc"
	.include "bench_chase.inc"
	.include "bench_random.inc"

	.section .rodata
name:	.asciz	"bench"
