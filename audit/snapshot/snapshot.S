# Has the kernel make the image of all RAM that it would hibernate with, and
# searches it for a canary.
#
# /dev/snapshot is how a program hibernates the host by itself: it has every
# other process frozen, has the image made, reads it, writes it wherever it
# likes and switches the host off. This one reads, counts, and has the others
# go on. It has no libc and one thread, and all of it is locked in memory:
# while the others are frozen nobody serves a page fault or a file system, and
# a second thread would be frozen with them. If it hangs, SIGALRM ends it, and
# the kernel thaws the others when it closes the device in its place.
#
# The canary is searched for masked: the loaded word is unmasked in a register.
	.include "program.inc"

	.set REPORT, 0		# descriptor: a file of one page, struct report

	# struct report, which snapshot.go has too: 64-bit words
	.set PAD,    0		# in: 4 words, the mask
	.set MASKED, 32		# in: 4 words, the canary masked
	.set LIMIT,  64		# in: seconds until it is given up
	.set STAGE,  72		# out: what it is at, or ended at
	.set ERRNO,  80		# out: why it ended there, 0 if it was through
	.set PAGES,  88		# out: pages of the image
	.set HITS,   96		# out: pages of it with the canary

	.set OPENING, 1;   .set FREEZING, 2;   .set MAKING, 3
	.set READING, 4;   .set THAWING, 5

	.set PAGE, 4096

	.set READ, 0;   .set OPEN, 2;   .set MMAP, 9;   .set IOCTL, 16
	.set ALARM, 37;   .set EXIT, 60;   .set MLOCKALL, 151

	.set MCL_CURRENT, 1
	.set PROT_READ_WRITE, 3
	.set MAP_SHARED, 1;   .set MAP_PRIVATE, 2;   .set MAP_ANONYMOUS, 32

	# include/uapi/linux/suspend_ioctls.h
	.set SNAPSHOT_FREEZE,       0x3301
	.set SNAPSHOT_UNFREEZE,     0x3302
	.set SNAPSHOT_CREATE_IMAGE, 0x40043311

_start:	xor	edi, edi
	mov	esi, PAGE
	mov	edx, PROT_READ_WRITE
	mov	r10d, MAP_SHARED
	mov	r8d, REPORT
	xor	r9d, r9d
	sys	MMAP
	test	rax, rax
	js	lost
	mov	rbx, rax			# rbx: the report

	xor	edi, edi
	mov	esi, PAGE
	mov	edx, PROT_READ_WRITE
	mov	r10d, MAP_PRIVATE | MAP_ANONYMOUS
	mov	r8, -1
	xor	r9d, r9d
	sys	MMAP
	test	rax, rax
	js	lost
	mov	r12, rax			# r12: a page of the image

	mov	edi, MCL_CURRENT
	sys	MLOCKALL
	test	rax, rax
	js	lost

	mov	rdi, [rbx + LIMIT]
	sys	ALARM

	mov	qword ptr [rbx + STAGE], OPENING
	lea	rdi, [rip + device]
	xor	esi, esi			# read only: to make an image, not to restore one
	sys	OPEN
	test	rax, rax
	js	failed
	mov	r13, rax			# r13: the device

	mov	qword ptr [rbx + STAGE], FREEZING
	mov	esi, SNAPSHOT_FREEZE
	xor	edx, edx
	call	ask
	js	failed

	mov	qword ptr [rbx + STAGE], MAKING
	mov	esi, SNAPSHOT_CREATE_IMAGE
	mov	rdx, r12			# gets an int: 1 in the kernel that made it
	call	ask
	js	failed

	mov	qword ptr [rbx + STAGE], READING
next:	mov	rdi, r13
	mov	rsi, r12
	mov	edx, PAGE			# the device gives a page at a time
	sys	READ
	test	rax, rax
	js	failed
	jz	thaw
	inc	qword ptr [rbx + PAGES]

	mov	r8, [rbx + PAD]
	mov	r9, [rbx + MASKED]
	mov	rsi, r12
	lea	rdi, [r12 + PAGE - 24]		# no canary starts from here on
look:	mov	rax, [rsi]
	xor	rax, r8
	cmp	rax, r9
	je	rest
on:	add	rsi, 8
	cmp	rsi, rdi
	jb	look
	jmp	next

	.macro	same n
	mov	rax, [rsi + 8 * \n]
	xor	rax, [rbx + PAD + 8 * \n]
	cmp	rax, [rbx + MASKED + 8 * \n]
	jne	on
	.endm

rest:	same	1
	same	2
	same	3
	inc	qword ptr [rbx + HITS]
	jmp	next

thaw:	mov	qword ptr [rbx + STAGE], THAWING
	mov	esi, SNAPSHOT_UNFREEZE
	xor	edx, edx
	call	ask
	js	failed
	xor	edi, edi
	sys	EXIT

ask:	mov	rdi, r13			# sets the sign flag if refused
	sys	IOCTL
	test	rax, rax
	ret

failed:	neg	rax				# the end of the process thaws the others
	mov	[rbx + ERRNO], rax
	xor	edi, edi
	sys	EXIT

lost:	neg	eax				# before there is a report
	mov	edi, eax
	sys	EXIT

device:	.asciz	"/dev/snapshot"
end:
