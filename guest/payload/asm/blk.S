# blk: drives a virtio block device and measures it (virtio 1.2 §5.2). It polls
# the used ring, without interrupts, and keeps as many requests in flight as it
# may.
#
# Argument 0: bits: 1 writes instead of reads, 2 goes in random order instead of
#             in sequence, 4 verifies contents
# Argument 1: bytes of a request, a multiple of 512 up to 1 MiB, default 128 KiB
# Argument 2: requests, default once over the disk, at most 1 GiB
# Argument 3: requests in flight, 1 to 64, default 32
#
# It says payload.BlkReport. Before what it measures, each buffer is used once,
# by requests that aren't counted. The status and the length that the device
# returns are checked for all requests. To verify contents takes time, which is
# in the report: reads must return the pattern, and writes write it. Each 64-bit
# word of the pattern is made from its offset on the disk (payload.BlkPattern).
#
# Exit code 1 says that a request failed, or a check; 2 that there is no disk to
# do this on. Only the first vCPU works.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"

	.set WHAT,     INFO_ARGS
	.set SIZE,     INFO_ARGS + 8
	.set REQUESTS, INFO_ARGS + 16
	.set DEPTH,    INFO_ARGS + 24
	.set WRITE, 1
	.set RANDOM, 2
	.set VERIFY, 4

	.set DEFAULT_SIZE,  128 << 10
	.set MAX_SIZE,      1 << 20
	.set DEFAULT_BYTES, 1 << 30
	.set DEFAULT_DEPTH, 32
	.set MAX_DEPTH,     64
	.set MULTIPLIER, 0x9e3779b97f4a7c15

# PCI configuration mechanism #1
	.set CONFIG_ADDRESS, 0xcf8
	.set CONFIG_DATA,    0xcfc
	.set BLOCK_DEVICE,   0x10421af4		# device 0x1042, vendor 0x1af4
	.set COMMAND,        0x04
	.set BAR0,           0x10
	.set CAPABILITIES,   0x34
	.set VENDOR_SPECIFIC, 9

# The common configuration, §4.1.4.3
	.set FEATURE_SELECT, 0x00
	.set FEATURES,       0x04
	.set DRIVER_SELECT,  0x08
	.set DRIVER_FEATURES, 0x0c
	.set STATUS,         0x14
	.set QUEUE_SELECT,   0x16
	.set QUEUE_SIZE,     0x18
	.set QUEUE_ENABLE,   0x1c
	.set NOTIFY_OFF,     0x1e
	.set QUEUE_RINGS,    0x20		# three addresses

	.set ACKNOWLEDGE, 1
	.set DRIVER,      2
	.set DRIVER_OK,   4
	.set FEATURES_OK, 8
	.set NEEDS_RESET, 64

	.set F_RO,        1 << 5		# VIRTIO_BLK_F_RO
	.set F_FLUSH,     1 << 9		# without it every write is made durable
	.set F_EVENT_IDX, 1 << 29
	.set F_VERSION_1, 1			# of the upper half

# The queue and what requests need beside buffers, from r14 on. Request i has the
# descriptors 4i to 4i+2: header, data, status.
	.set QUEUE,   256			# descriptors
	.set AVAIL,   0x1000
	.set USED,    0x2000
	.set HEADERS, 0x3000			# of 16 bytes, each in a cache line of its own,
	.set STATUSES, HEADERS + 16		# with the status byte behind it
	.set LINE_SHIFT, 6
	.set BUFFERS, 0x4000
	.set AVAIL_EVENT, USED + 4 + 8 * QUEUE

	.set NEXT,    1				# flags of a descriptor
	.set DEVICE_WRITES, 2

# Each look at the used ring takes its cache line from the device's CPU, so there
# are pauses between them. After so many looks the device may have given up.
	.set PAUSES,   16
	.set PATIENCE, 1 << 22

	.data
	.balign	64
common:	.quad	0				# addresses of registers
notify:	.quad	0
config:	.quad	0
step:	.quad	0				# bytes between notification registers
blocks:	.quad	0				# requests that the disk has room for
made:	.quad	0				# number of the next request
left:	.quad	0				# requests still to make
flying:	.quad	0				# requests in flight
length:	.long	0				# that the device is to return
avail:	.word	0				# index in the avail ring of the next request
kicked:	.word	0				# that index when the device was last told
used:	.word	0				# index in the used ring of the next answer
	.text

# refuse "text": end with exit code 2
	.macro	refuse text
	say	"blk: \text\n"
	mov	al, 2
	jmp	quit
	.endm

main:	entry
	test	r12d, r12d
	jnz	park
	call	find
	call	negotiate
	call	settle
	call	set_up
	call	userland

	mov	rcx, [r13 + DEPTH]		# to warm up
	call	transfer
	call	cycles
	push	rax
	mov	rcx, [r13 + REQUESTS]
	call	transfer
	call	cycles
	pop	rbx
	sub	rax, rbx
	mov	rbx, rax

	say	"blk: "
	mov	rax, [r13 + REQUESTS]
	call	decimal
	say	" requests of "
	mov	rax, [r13 + SIZE]
	call	decimal
	say	" bytes done and checked, "
	mov	rax, rbx
	call	decimal
	say	" cycles, "
	mov	rax, [r13 + REQUESTS]
	mul	qword ptr [r13 + SIZE]
	mul	qword ptr [r13 + INFO_TSC]	# kHz
	div	rbx				# bytes a millisecond
	xor	edx, edx
	mov	ecx, 1000
	div	rcx
	call	decimal
	say	" MB/s\n"
	xor	eax, eax
	jmp	quit

# transfer makes rcx requests, from the start of the disk, and returns when they
# are done.
transfer:
	mov	[rip + left], rcx
	mov	qword ptr [rip + made], 0
	xor	r15d, r15d
1:	call	submit				# one of each slot
	inc	r15
	cmp	r15, [r13 + DEPTH]
	jb	1b
2:	call	tell
	cmp	qword ptr [rip + flying], 0
	je	9f
	mov	r8d, PATIENCE
3:	movzx	eax, word ptr [r14 + USED + 2]
	cmp	ax, [rip + used]
	jne	5f
	mov	ecx, PAUSES
4:	pause
	dec	ecx
	jnz	4b
	dec	r8d
	jnz	3b
	mov	rax, [rip + common]
	test	byte ptr [rax + STATUS], NEEDS_RESET
	jnz	broken
	jmp	2b

5:	movzx	eax, word ptr [rip + used]
	and	eax, QUEUE - 1
	mov	r15d, [r14 + rax * 8 + USED + 4]
	mov	edx, [r14 + rax * 8 + USED + 8]
	test	r15d, 3
	jnz	answer
	shr	r15d, 2
	cmp	r15, [r13 + DEPTH]
	jae	answer
	mov	rax, r15
	shl	eax, LINE_SHIFT
	cmp	byte ptr [r14 + rax + STATUSES], 0
	jne	failed
	cmp	edx, [rip + length]
	jne	short
	call	check
	inc	word ptr [rip + used]
	dec	qword ptr [rip + flying]
	call	submit				# the next one, with the same slot
	movzx	eax, word ptr [r14 + USED + 2]
	cmp	ax, [rip + used]
	jne	5b
	jmp	2b
9:	ret

# submit puts the next request, if any is left, into slot r15, and makes it
# available.
submit:	cmp	qword ptr [rip + left], 0
	je	9f
	dec	qword ptr [rip + left]
	inc	qword ptr [rip + flying]
	mov	rax, [rip + made]
	inc	qword ptr [rip + made]
	test	byte ptr [r13 + WHAT], RANDOM
	jz	1f
	movabs	rcx, MULTIPLIER			# spread the numbers over 64 bits,
	imul	rax, rcx
	mov	rdx, rax
	shr	rdx, 32
	xor	rax, rdx
	imul	rax, rcx
	mul	qword ptr [rip + blocks]	# and then over the disk
	mov	rax, rdx
	jmp	2f
1:	xor	edx, edx
	div	qword ptr [rip + blocks]
	mov	rax, rdx
2:	mul	qword ptr [r13 + SIZE]
	shr	rax, 9
	mov	rcx, r15
	shl	ecx, LINE_SHIFT
	mov	[r14 + rcx + HEADERS + 8], rax	# sector
	mov	byte ptr [r14 + rcx + STATUSES], 0xff
	mov	edx, [r13 + WHAT]
	and	edx, WRITE | VERIFY
	cmp	edx, WRITE | VERIFY
	jne	3f
	call	pattern
4:	mov	[rdi], rax
	add	rax, rdx
	add	rdi, 8
	dec	rcx
	jnz	4b
3:	movzx	eax, word ptr [rip + avail]
	mov	edx, eax
	and	eax, QUEUE - 1
	lea	ecx, [r15 * 4]
	mov	[r14 + rax * 2 + AVAIL + 4], cx
	inc	edx
	mov	[rip + avail], dx
	mov	[r14 + AVAIL + 2], dx
9:	ret

# tell kicks the device if it wants that for what was made available since the
# last time (§2.7.10).
tell:	mov	cx, [rip + avail]
	mov	dx, [rip + kicked]
	cmp	cx, dx
	je	9f
	mov	[rip + kicked], cx
	mfence
	mov	eax, ecx
	sub	ax, [r14 + AVAIL_EVENT]
	dec	ax
	sub	cx, dx
	cmp	ax, cx
	jae	9f
	mov	rax, [rip + notify]
	mov	word ptr [rax], 0
9:	ret

# check compares what was read into slot r15 with the pattern, if it is to
# verify, and overwrites it.
check:	mov	eax, [r13 + WHAT]
	and	eax, WRITE | VERIFY
	cmp	eax, VERIFY
	jne	9f
	call	pattern
1:	cmp	[rdi], rax
	jne	wrong
	mov	qword ptr [rdi], 0
	add	rax, rdx
	add	rdi, 8
	dec	rcx
	jnz	1b
9:	ret

# pattern returns in rdi the buffer of slot r15, in rcx its 64-bit words, in rax
# what the first of them is on the disk, and in rdx by how much the next is more.
pattern:
	mov	rdi, r15
	imul	rdi, [r13 + SIZE]
	lea	rdi, [r14 + rdi + BUFFERS]
	mov	rcx, r15
	shl	ecx, LINE_SHIFT
	mov	rax, [r14 + rcx + HEADERS + 8]
	shl	rax, 9
	inc	rax				# no word is 0
	movabs	rdx, MULTIPLIER
	imul	rax, rdx
	shl	rdx, 3
	mov	rcx, [r13 + SIZE]
	shr	rcx, 3
	ret

# find finds the device's registers and enables them.
find:	xor	ebx, ebx			# device number, shifted
1:	mov	eax, ebx
	call	read_config
	cmp	eax, BLOCK_DEVICE
	je	2f
	add	ebx, 1 << 11
	cmp	ebx, 32 << 11
	jb	1b
	refuse	"this guest has no disk: --disk FILE gives it one"
2:	lea	eax, [rbx + COMMAND]
	call	read_config			# sets the address
	mov	dx, CONFIG_DATA
	mov	ax, 6				# memory, bus master
	out	dx, ax
	lea	eax, [rbx + BAR0]
	call	read_config
	and	eax, -16
	mov	r9d, eax
	lea	eax, [rbx + CAPABILITIES]
	call	read_config
	movzx	ebp, al
3:	test	ebp, ebp			# a capability
	jz	7f
	lea	eax, [rbx + rbp]
	call	read_config
	mov	r8d, eax			# id, next, length, type
	cmp	al, VENDOR_SPECIFIC
	jne	6f
	lea	eax, [rbx + rbp + 8]
	call	read_config
	lea	rcx, [r9 + rax]
	mov	eax, r8d
	shr	eax, 24
	cmp	eax, 1
	jne	4f
	mov	[rip + common], rcx
4:	cmp	eax, 4
	jne	5f
	mov	[rip + config], rcx
5:	cmp	eax, 2
	jne	6f
	mov	[rip + notify], rcx
	lea	eax, [rbx + rbp + 16]
	call	read_config
	mov	[rip + step], rax
6:	movzx	ebp, r8w
	shr	ebp, 8
	jmp	3b
7:	ret

# read_config returns register eax of configuration space, with the device's
# number in its upper bits, in eax.
read_config:
	or	eax, 1 << 31
	mov	edx, CONFIG_ADDRESS
	out	dx, eax
	mov	edx, CONFIG_DATA
	in	eax, dx
	ret

# negotiate resets the device, and agrees on features.
negotiate:
	mov	rbx, [rip + common]
	mov	byte ptr [rbx + STATUS], 0
1:	pause
	cmp	byte ptr [rbx + STATUS], 0
	jne	1b
	mov	byte ptr [rbx + STATUS], ACKNOWLEDGE
	mov	byte ptr [rbx + STATUS], ACKNOWLEDGE | DRIVER
	mov	dword ptr [rbx + FEATURE_SELECT], 0
	mov	ebp, [rbx + FEATURES]
	test	ebp, F_RO
	jz	2f
	test	byte ptr [r13 + WHAT], WRITE
	jz	2f
	refuse	"this disk is read-only"
2:	mov	eax, ebp
	and	eax, F_FLUSH | F_RO
	or	eax, F_EVENT_IDX
	mov	dword ptr [rbx + DRIVER_SELECT], 0
	mov	[rbx + DRIVER_FEATURES], eax
	mov	dword ptr [rbx + DRIVER_SELECT], 1
	mov	dword ptr [rbx + DRIVER_FEATURES], F_VERSION_1
	mov	byte ptr [rbx + STATUS], ACKNOWLEDGE | DRIVER | FEATURES_OK
	test	byte ptr [rbx + STATUS], FEATURES_OK
	jnz	9f
	refuse	"this disk has no event index, or isn't of virtio 1"
9:	ret

# settle checks the arguments, and puts defaults where they are 0.
settle:	mov	rax, [r13 + SIZE]
	mov	ecx, DEFAULT_SIZE
	test	rax, rax
	cmovz	rax, rcx
	mov	[r13 + SIZE], rax
	test	eax, 511
	jnz	bad_size
	cmp	rax, MAX_SIZE
	ja	bad_size
	mov	rax, [r13 + DEPTH]
	mov	ecx, DEFAULT_DEPTH
	test	rax, rax
	cmovz	rax, rcx
	mov	[r13 + DEPTH], rax
	cmp	rax, MAX_DEPTH
	ja	bad_depth

	mov	rcx, [rip + config]
	mov	eax, [rcx]			# sectors
	mov	edx, [rcx + 4]
	shl	rdx, 32
	or	rax, rdx
	mov	rcx, [r13 + SIZE]
	shr	rcx, 9
	xor	edx, edx
	div	rcx
	test	rax, rax
	jz	too_small
	mov	[rip + blocks], rax
	cmp	qword ptr [r13 + REQUESTS], 0
	jne	1f
	mov	rbx, rax
	mov	eax, DEFAULT_BYTES
	xor	edx, edx
	div	qword ptr [r13 + SIZE]
	cmp	rax, rbx
	cmova	rax, rbx
	mov	[r13 + REQUESTS], rax

1:	mov	r14, [r13 + INFO_TABLE]		# room in the first range
	mov	rax, [r13 + SIZE]
	imul	rax, [r13 + DEPTH]
	lea	rax, [r14 + rax + BUFFERS]
	cmp	rax, [r13 + INFO_TABLE + 8]
	ja	no_room
	ret

bad_size:
	refuse	"a request has a multiple of 512 bytes, and at most 1 MiB"
bad_depth:
	refuse	"at most 64 requests are in flight"
too_small:
	refuse	"the disk is smaller than a request"
no_room:
	refuse	"the guest has too little RAM for so many requests of that size"

# set_up makes the requests' descriptors, and has the device use the queue. All
# of their memory is written, which gives it its pages.
set_up:	mov	rdi, r14
	mov	rcx, [r13 + SIZE]
	imul	rcx, [r13 + DEPTH]
	add	rcx, BUFFERS
	xor	eax, eax
	rep stosb

	mov	dword ptr [rip + length], 1	# the status,
	mov	ebp, NEXT			# flags of the data's descriptor
	test	byte ptr [r13 + WHAT], WRITE
	jnz	1f
	mov	eax, [r13 + SIZE]		# and what was read
	add	[rip + length], eax
	or	ebp, DEVICE_WRITES
1:	xor	ecx, ecx			# slot
	lea	rdi, [r14 + BUFFERS]
2:	mov	rbx, rcx
	shl	ebx, 6
	add	rbx, r14			# its descriptors
	mov	rax, rcx
	shl	eax, LINE_SHIFT
	lea	rax, [r14 + rax + HEADERS]
	mov	edx, [r13 + WHAT]
	and	edx, WRITE			# VIRTIO_BLK_T_OUT is 1, IN 0
	mov	[rax], edx
	mov	[rbx], rax
	mov	dword ptr [rbx + 8], 16
	mov	word ptr [rbx + 12], NEXT
	lea	edx, [rcx * 4 + 1]
	mov	[rbx + 14], dx
	mov	[rbx + 16], rdi
	mov	eax, [r13 + SIZE]
	mov	[rbx + 24], eax
	add	rdi, rax
	mov	[rbx + 28], bp
	inc	edx
	mov	[rbx + 30], dx
	mov	rax, rcx
	shl	eax, LINE_SHIFT
	lea	rax, [r14 + rax + STATUSES]
	mov	[rbx + 32], rax
	mov	dword ptr [rbx + 40], 1
	mov	word ptr [rbx + 44], DEVICE_WRITES
	inc	rcx
	cmp	rcx, [r13 + DEPTH]
	jb	2b

	mov	rbx, [rip + common]
	mov	word ptr [rbx + QUEUE_SELECT], 0
	movzx	eax, word ptr [rbx + QUEUE_SIZE]
	cmp	eax, QUEUE
	jae	3f
	refuse	"this disk's queue has less than 256 descriptors"
3:	mov	word ptr [rbx + QUEUE_SIZE], QUEUE
	movzx	eax, word ptr [rbx + NOTIFY_OFF]
	imul	rax, [rip + step]
	add	[rip + notify], rax
	mov	rax, r14
	xor	ecx, ecx
4:	mov	[rbx + rcx * 8 + QUEUE_RINGS], eax
	mov	rdx, rax
	shr	rdx, 32
	mov	[rbx + rcx * 8 + QUEUE_RINGS + 4], edx
	add	rax, AVAIL
	inc	ecx
	cmp	ecx, 3
	jb	4b
	mov	word ptr [rbx + QUEUE_ENABLE], 1
	mov	byte ptr [rbx + STATUS], ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
	ret

# What goes wrong with a request, of slot r15.
broken:	say	"blk: the device needs a reset\n"
	jmp	fail
answer:	say	"blk: the device has used what is no request\n"
	jmp	fail
failed:	call	sector
	say	" failed with status "
	shl	r15d, LINE_SHIFT
	movzx	eax, byte ptr [r14 + r15 + STATUSES]
	jmp	2f
short:	mov	ebx, edx
	call	sector
	say	" used a length of "
	mov	eax, ebx
	jmp	2f
wrong:	mov	rbx, rax
	mov	rbp, [rdi]
	call	sector
	say	" read "
	mov	rax, rbp
	call	hex
	say	" instead of "
	mov	rax, rbx
	call	hex
	jmp	3f
2:	call	decimal
3:	say	"\n"
fail:	mov	al, 1
	jmp	quit

# sector says which request it is.
sector:	say	"blk: request at sector "
	mov	rax, r15
	shl	eax, LINE_SHIFT
	mov	rax, [r14 + rax + HEADERS + 8]
	jmp	decimal
