# The scrubber waits until the process that started it has ended, overwrites
# every page of the file that it was given with zeros, and exits.
#
# It has no libc, no data and only a few pages of memory, because it has to
# survive when the machine runs out of memory. Its exit status is 0 once the
# file is empty, or the errno of the system call that failed before it was ready.
	.include "program.inc"

	.set SOCKET, 0		# descriptor: a socket; the VMM has its other end
	.set WINDOW, 1		# descriptor: the file to wipe
	.set PAGE,   4096
	.set CHUNK,  256 * 1024	# bytes in one write

	.set READ, 0;   .set WRITE, 1;   .set OPEN, 2;   .set CLOSE, 3
	.set POLL, 7;   .set LSEEK, 8;   .set MMAP, 9
	.set RT_SIGPROCMASK, 14;   .set PWRITE64, 18;   .set EXIT, 60
	.set PRCTL, 157;   .set FALLOCATE, 285;   .set CLOSE_RANGE, 436

	.set EINTR, 4
	.set SIG_SETMASK, 2
	.set O_WRONLY, 1
	.set PR_SET_DUMPABLE, 4;   .set PR_SET_NAME, 15
	.set PROT_READ, 1
	.set MAP_PRIVATE, 2;   .set MAP_ANONYMOUS, 32
	.set SEEK_DATA, 3;   .set SEEK_HOLE, 4
	.set KEEP_SIZE, 1;   .set PUNCH_HOLE, 2

	.macro	must nr
	sys	\nr
	test	rax, rax
	js	fail
	.endm

_start:	mov	edi, PR_SET_DUMPABLE		# execve may have made it dumpable (package
	xor	esi, esi			# undumpable): nobody else may open WINDOW
	must	PRCTL

	mov	edi, SIG_SETMASK		# block all but SIGKILL and SIGSTOP
	lea	rsi, [rip + every]
	xor	edx, edx
	mov	r10d, 8
	must	RT_SIGPROCMASK

	mov	edi, WINDOW + 1			# descriptors that the VMM inherited
	mov	esi, -1
	xor	edx, edx
	must	CLOSE_RANGE

	mov	edi, PR_SET_NAME
	lea	rsi, [rip + name]
	must	PRCTL

	lea	rdi, [rip + oom]		# exempt from the OOM killer:
	mov	esi, O_WRONLY			# needs CAP_SYS_RESOURCE, so it may fail
	sys	OPEN
	mov	ebx, eax
	mov	edi, ebx
	lea	rsi, [rip + never]
	mov	edx, 5
	sys	WRITE
	mov	edi, ebx
	sys	CLOSE

	xor	edi, edi			# the zeros: never written, so all of it
	mov	esi, CHUNK			# is the kernel's zero page
	mov	edx, PROT_READ
	mov	r10d, MAP_PRIVATE | MAP_ANONYMOUS
	mov	r8, -1
	xor	r9d, r9d
	must	MMAP
	mov	r15, rax

	mov	edi, SOCKET			# "ready". If the VMM has ended already,
	lea	rsi, [rip + name]		# the read will return end of file
	mov	edx, 1
	sys	WRITE

wait:	mov	edi, SOCKET
	mov	rsi, rsp
	mov	edx, 1
	sys	READ
	cmp	rax, -EINTR
	je	wait
	test	rax, rax
	jg	wait

# The VMM has ended. Make passes over the file's pages until one finds none. A
# page that can't be written, such as a swapped one when there is no memory, is
# left for a later pass: the others don't wait for it, and its frame isn't freed
# unwiped.
pass:	xor	r12d, r12d			# r12: offset in the file
	xor	r14d, r14d			# r14: start of the wiped range, which ends at r12
	xor	ebx, ebx			# ebx: this pass found something
	xor	ebp, ebp			# ebp: ms to wait before the next pass

extent:	mov	edi, WINDOW
	mov	rsi, r12
	mov	edx, SEEK_DATA
	sys	LSEEK
	test	rax, rax
	js	done				# no data from r12 on
	mov	r12, rax
	mov	ebx, 1

	mov	edi, WINDOW
	mov	rsi, r12
	mov	edx, SEEK_HOLE
	sys	LSEEK
	mov	r13, rax			# r13: end of the extent

chunk:	mov	rdx, r13
	sub	rdx, r12
	jle	extent
	mov	eax, CHUNK
	cmp	rdx, rax
	cmova	rdx, rax
	mov	edi, WINDOW
	mov	rsi, r15
	mov	r10, r12
	sys	PWRITE64
	test	rax, rax
	jle	later
	add	r12, rax
	jmp	chunk

later:	call	punch
	add	r12, PAGE
	mov	r14, r12
	mov	ebp, 100
	jmp	chunk

done:	xor	edi, edi
	test	ebx, ebx
	jz	exit
	call	punch
	xor	edi, edi
	xor	esi, esi
	mov	edx, ebp
	sys	POLL				# no descriptors: sleep
	jmp	pass

punch:	mov	edi, WINDOW			# free the wiped range
	mov	esi, KEEP_SIZE | PUNCH_HOLE
	mov	rdx, r14
	mov	r10, r12
	sub	r10, r14
	sys	FALLOCATE
	ret

fail:	neg	eax
	mov	edi, eax
exit:	sys	EXIT

every:	.quad	-1
name:	.asciz	"window-scrubber"
oom:	.asciz	"/proc/self/oom_score_adj"
never:	.ascii	"-1000"
end:
