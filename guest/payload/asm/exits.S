# exits: measures VM exits that no device answers: writes and reads of an I/O
# port, and reads of an address that no memory is at.
#
# Argument: how many of each (100000).
# It says "exits: N of each, A cycles of port writes, B of port reads, C of
# memory reads", payload.ExitsReport. Only vCPU 0 does something.
#
# The loops are those of internal/measure/bench/baseline/src/exits.c, whose times these
# are held against.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

	.set	COUNT, 100000
	.set	WARM_UP, 100
	.set	PORT, 0x80		# no device
	.set	NOTHING, 0xd0000000	# in the PCI hole: no device either

main:	entry
	test	r12d, r12d
	jnz	park
	call	userland
	mov	rax, [r13 + INFO_ARGS]
	mov	ebp, COUNT
	test	rax, rax
	cmovnz	rbp, rax

	mov	ebx, NOTHING

	lea	r15, [rip + write]
	call	time
	push	rax
	lea	r15, [rip + read]
	call	time
	push	rax
	lea	r15, [rip + load]
	call	time
	push	rax

	say	"exits: "
	mov	rax, rbp
	call	decimal
	say	" of each, "
	mov	rax, [rsp + 16]
	call	decimal
	say	" cycles of port writes, "
	mov	rax, [rsp + 8]
	call	decimal
	say	" of port reads, "
	mov	rax, [rsp]
	call	decimal
	say	" of memory reads\n"
	xor	eax, eax
	jmp	quit

# time runs the loop at r15, a few turns to warm up and then rbp turns, and
# returns in rax the cycles of the latter.
time:	mov	ecx, WARM_UP
	mov	edx, PORT
	call	r15
	call	cycles
	mov	rdi, rax
	mov	rcx, rbp
	mov	edx, PORT
	call	r15
	call	cycles
	sub	rax, rdi
	ret

write:	out	dx, al
	dec	ecx
	jnz	write
	ret

read:	in	al, dx
	dec	ecx
	jnz	read
	ret

load:	mov	eax, [rbx]
	dec	ecx
	jnz	load
	ret
