# canary: plants a canary of its own making, for the host to look for.
#
# Argument 0: pages to plant in, from the start of free RAM; default all
#
# It says "offmap-canary: HEX pages=N", the canary masked (audit/canary), and
# "offmap-canary: planted". Then it sleeps until it gets a byte of input: at an r
# it resets the machine; at any other it says "offmap-canary: held in N of N
# pages" and ends with 0 if that is all of them.
#
# It runs at CPL 0, to sleep. The canary's clear text is only ever in the pages
# and, a word at a time, in a register.
	.text
	.globl	_start
_start:	jmp	main
	.include "common.inc"
	.include "idt.inc"

	.set UART, 0x3f8
	.set LSR,  UART + 5
	.set PIC,  0x20

main:	entry
	test	r12d, r12d
	jnz	park

	# Random words, from the time that exits take: the low bits of 64 of
	# them go into each. Not all KVMs run RDRAND at CPL 0.
	lea	rdi, [rip + masked]
	mov	rbx, 0x9e3779b97f4a7c15
	mov	ebp, 4
1:	mov	ecx, 64
2:	mov	edx, LSR
	in	al, dx
	rdtsc
	shl	rdx, 32
	or	rax, rdx
	xor	r15, rax
	imul	r15, rbx
	ror	r15, 29
	dec	ecx
	jnz	2b
	mov	[rdi], r15
	add	rdi, 8
	dec	ebp
	jnz	1b

	lea	r15, [rip + plant]
	call	all
	mov	[rip + planted], rbx
	call	userland
	say	"offmap-canary: "
	lea	rdi, [rip + masked]
	mov	ebp, 4
1:	mov	r8, [rdi]
	bswap	r8				# byte by byte, the first one first
	call	digits
	add	rdi, 8
	dec	ebp
	jnz	1b
	say	" pages="
	mov	rax, [rip + planted]
	call	decimal
	say	"\noffmap-canary: planted\n"

	call	input
	cmp	al, 'r'
	jne	1f
	mov	edx, 0x64			# the keyboard controller's reset line
	mov	al, 0xfe
	out	dx, al
	jmp	park
1:	lea	r15, [rip + check]
	call	all
	say	"offmap-canary: held in "
	mov	rax, rbx
	call	decimal
	say	" of "
	mov	rax, [rip + planted]
	call	decimal
	say	" pages\n"
	xor	eax, eax
	cmp	rbx, [rip + planted]
	setne	al
	jmp	quit

# all calls r15 for the place in each page, in rdi, and counts in rbx those for
# which it returned with the zero flag set.
all:	xor	ebx, ebx
	mov	r14, [r13 + INFO_ARGS]
	dec	r14				# the default is the largest number
	lea	r9, [r13 + INFO_TABLE]
	mov	r10d, [r13 + INFO_RANGES]
1:	mov	r11, [r9]
2:	cmp	r11, [r9 + 8]
	jae	3f
	imul	rdi, r11, 0x6255		# another cache line in each page
	shr	rdi, 12
	and	edi, 63
	shl	edi, 6
	add	rdi, r11
	call	r15
	sete	al
	movzx	eax, al
	add	rbx, rax
	add	r11, 4096
	sub	r14, 1
	jae	2b
	ret
3:	add	r9, 16
	dec	r10d
	jnz	1b
	ret

plant:	xor	ecx, ecx
	lea	rsi, [rip + masked]
1:	mov	rax, [rsi + rcx]
	xor	rax, [rsi + pad - masked + rcx]
	mov	[rdi + rcx], rax
	add	ecx, 8
	cmp	ecx, 32
	jne	1b
	ret

check:	xor	ecx, ecx
	lea	rsi, [rip + masked]
1:	mov	rax, [rsi + rcx]
	xor	rax, [rsi + pad - masked + rcx]
	cmp	[rdi + rcx], rax
	jne	2f
	add	ecx, 8
	cmp	ecx, 32
	jne	1b
2:	ret

# digits writes r8 in sixteen hexadecimal digits.
digits:	mov	edx, CONSOLE
	mov	ecx, 16
1:	rol	r8, 4
	mov	eax, r8d
	and	al, 15
	add	al, '0'
	cmp	al, '9'
	jbe	2f
	add	al, 'a' - '9' - 1
2:	out	dx, al
	dec	ecx
	jnz	1b
	ret

# input sleeps until there is a byte and returns it in al.
input:	handle	0x24, received			# IRQ 4, COM1
	# The first PIC's vectors from 0x20 on, and of its lines COM1's only
	# (Intel 8259A, ICW1 to ICW4, OCW1).
	mov	al, 0x11
	out	PIC, al
	mov	al, 0x20
	out	PIC + 1, al
	mov	al, 4
	out	PIC + 1, al
	mov	al, 1
	out	PIC + 1, al
	mov	al, 0xff - (1 << 4)
	out	PIC + 1, al
	mov	edx, UART + 4			# OUT2 lets the interrupt through
	mov	al, 8
	out	dx, al
	mov	edx, UART + 1			# received data
	mov	al, 1
	out	dx, al
	mov	r14, rsp
1:	mov	edx, LSR
	in	al, dx
	test	al, 1
	jnz	2f
	sti
	hlt
	jmp	1b
2:	mov	edx, UART
	in	al, dx
	ret

# received comes out of the hlt, or right before it, and never returns to it: not
# all KVMs run IRETQ at CPL 0.
received:
	mov	rsp, r14
	mov	al, 0x20			# end of interrupt
	out	PIC, al
	jmp	1b

	.data
	.balign	8
planted:
	.quad	0
masked:	.zero	32
# The pad that audit/canary masks with.
pad:	.quad	0x9d1ac6b4e57f2083, 0x3be8740f61d5924e, 0xc2750d9838ae4bf1, 0x5f946e23da01b7cc
