# The terminal keeper waits until the process that started it is gone. Then it
# restores the settings that the terminal had before that process made it raw,
# unless somebody has changed them since, and ends. The process writes both settings to
# a pipe before it makes the terminal raw, and settings that no terminal has when the
# terminal isn't raw any more.
	.include "program.inc"

	.set LIFE,     0	# descriptor: a pipe whose other end is the VMM's
	.set TERMINAL, 1	# descriptor: the terminal

	.set READ, 0;   .set RT_SIGPROCMASK, 14;   .set IOCTL, 16;   .set EXIT, 60
	.set PRCTL, 157;   .set CLOSE_RANGE, 436

	.set EINTR, 4
	.set SIG_SETMASK, 2
	.set PR_SET_NAME, 15
	.set TCGETS, 0x5401;   .set TCSETS, 0x5402

# struct termios (include/uapi/asm-generic/termbits.h): c_iflag, c_oflag,
# c_cflag and c_lflag of 4 bytes each, c_line, c_cc[19].
	.set TERMIOS, 36;   .set LFLAG, 12

# On the stack: the settings to restore, the raw ones, and the current ones.
	.set BEFORE, 0;   .set RAW, TERMIOS;   .set NOW, 2 * TERMIOS

_start:	mov	edi, SIG_SETMASK		# only SIGKILL and SIGSTOP get through
	lea	rsi, [rip + every]
	xor	edx, edx
	mov	r10d, 8
	sys	RT_SIGPROCMASK

	mov	edi, TERMINAL + 1		# close what the VMM had inherited
	mov	esi, -1
	xor	edx, edx
	sys	CLOSE_RANGE

	mov	edi, PR_SET_NAME
	lea	rsi, [rip + name]
	sys	PRCTL

	sub	rsp, 3 * TERMIOS
	mov	qword ptr [rsp + RAW], -1	# no terminal has these
wait:	mov	edi, LIFE
	mov	rsi, rsp			# BEFORE and RAW, all or nothing of them
	mov	edx, 2 * TERMIOS
	sys	READ
	cmp	rax, -EINTR
	je	wait
	cmp	eax, 2 * TERMIOS
	je	wait

# The VMM is gone. A shell may have set the terminal by now, and its settings must
# stay.
	mov	edi, TERMINAL
	mov	esi, TCGETS
	lea	rdx, [rsp + NOW]
	sys	IOCTL
	test	rax, rax
	js	exit
	mov	rax, [rsp + NOW]		# c_iflag and c_oflag
	cmp	rax, [rsp + RAW]
	jne	exit
	mov	eax, [rsp + NOW + LFLAG]
	cmp	eax, [rsp + RAW + LFLAG]
	jne	exit

	mov	edi, TERMINAL
	mov	esi, TCSETS
	lea	rdx, [rsp + BEFORE]
	sys	IOCTL

exit:	xor	edi, edi
	sys	EXIT

every:	.quad	-1
name:	.asciz	"terminal-keeper"
end:
