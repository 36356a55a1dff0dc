#include "go_asm.h"
#include "textflag.h"

#define si_code 8
#define si_syscall 24
#define SYS_SECCOMP 1
#define POLLOUT 4

#define nr_poll 7
#define nr_writev 20
#define nr_getpid 39
#define nr_gettid 186
#define nr_exit_group 231
#define nr_tgkill 234

DATA ·trapAddress(SB)/8, $·trap(SB)
GLOBL ·trapAddress(SB), RODATA, $8

// The action of SIGSYS: a function as the kernel calls it, with the signal in DI and its
// siginfo_t in SI. It needs nothing of Go's runtime. The signal has its default action
// again (SA_RESETHAND) and isn't blocked (SA_NODEFER), so sending it ends the process.
TEXT ·trap(SB), NOSPLIT|NOFRAME, $0
	CMPL si_code(SI), $SYS_SECCOMP
	JNE  end
	MOVL si_syscall(SI), AX
	CMPL AX, $const_numbers
	JCS  known
	MOVL $const_numbers, AX

known:
	// The name is the second part of the message. A string is an iovec, too.
	SHLQ  $4, AX
	LEAQ  ·callNames(SB), CX
	MOVUPS (CX)(AX*1), X0
	LEAQ  ·message(SB), CX
	MOVUPS X0, 16(CX)

	// A reader that has stopped mustn't keep us.
	MOVQ $(POLLOUT<<32 + 2), AX // a struct pollfd of standard error
	PUSHQ AX
	MOVQ SP, DI
	MOVQ $1, SI
	MOVQ $0, DX
	MOVL $nr_poll, AX
	SYSCALL
	CMPQ AX, $1
	JNE  end
	MOVL $2, DI
	LEAQ ·message(SB), SI
	MOVL $3, DX
	MOVL $nr_writev, AX
	SYSCALL

end:
	MOVL $nr_getpid, AX
	SYSCALL
	MOVQ AX, BX
	MOVL $nr_gettid, AX
	SYSCALL
	MOVQ BX, DI
	MOVQ AX, SI
	MOVL $31, DX // SIGSYS
	MOVL $nr_tgkill, AX
	SYSCALL
	MOVL $159, DI // not reached
	MOVL $nr_exit_group, AX
	SYSCALL
	INT  $3
