package inject

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tracee is a thread that this thread traces, by its ID.
type tracee int

// errLost says that the tracee isn't stopped any more, so that nothing can be
// done with it. errEnded is the case that it is gone.
var (
	errLost  = errors.New("lost")
	errEnded = fmt.Errorf("%w: the thread has ended", errLost)
)

// lost says what has failed. A tracee that is gone is reaped: its process isn't
// before its tracer has done that.
func (t tracee) lost(what string, err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ECHILD) {
		ctx, cancel := context.WithTimeout(context.Background(), graceTime)
		defer cancel()
		if t.reap(ctx) == nil {
			return errEnded
		}
	}
	return fmt.Errorf("%w: %s: %w", errLost, what, err)
}

// options makes system call stops tell themselves from signals, and what a
// tracee clones be traced from birth.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE

// trace sets the options. It also suspends the tracee's seccomp filters, which may refuse
// our calls, or kill the process for them. That takes CAP_SYS_ADMIN, and a tracer without
// filters (ptrace(2), PTRACE_O_SUSPEND_SECCOMP). Without it, only filters that this process
// has as well do no harm.
func (t tracee) trace() error {
	err := unix.PtraceSetOptions(int(t), options|unix.PTRACE_O_SUSPEND_SECCOMP)
	if err == nil {
		return nil
	}
	if ours, theirs := filters("self"), filters(strconv.Itoa(int(t))); theirs > ours {
		return fmt.Errorf("%w: the process is confined by seccomp, which PTRACE_O_SUSPEND_SECCOMP would suspend: %w (it takes CAP_SYS_ADMIN, no filter of this process's own, and CONFIG_CHECKPOINT_RESTORE)", ErrRefused, err)
	}
	return unix.PtraceSetOptions(int(t), options)
}

// filters returns how many seccomp filters a thread has (proc(5), Seccomp_filters).
func filters(tid string) int {
	status, _ := os.ReadFile("/proc/" + tid + "/status")
	_, rest, _ := strings.Cut(string(status), "\nSeccomp_filters:")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// callStop is the signal of a stop at a system call's entry or exit.
const callStop = unix.SIGTRAP | 0x80

// event is which PTRACE_EVENT a stop is, 0 for none.
func event(st unix.WaitStatus) int { return int(st) >> 16 }

// call makes a system call with the syscall instruction at address at and
// registers that are otherwise regs, and leaves the thread stopped at the
// call's end. child is the thread or process that the call has made, if any.
// When ctx is done the call is interrupted, and the error is ctx's cause. Other
// errors are the call's own and errLost.
func (t tracee) call(ctx context.Context, regs *unix.PtraceRegs, at uint64, number int, args ...uint64) (result uint64, child tracee, err error) {
	if ctx.Err() != nil {
		return 0, 0, context.Cause(ctx)
	}
	r := *regs
	r.Rip, r.Rax = at, uint64(number)
	for i, to := range []*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9}[:len(args)] {
		*to = args[i]
	}
	if err := unix.PtraceSetRegs(int(t), &r); err != nil {
		return 0, 0, t.lost("PTRACE_SETREGS", err)
	}
	limit := ctx
	var interrupted error // why
	signal := unix.Signal(0)
	for entered := false; ; {
		if err := unix.PtraceSyscall(int(t), int(signal)); err != nil {
			return 0, 0, t.lost("PTRACE_SYSCALL", err)
		}
		st, err := t.wait(limit)
		if interrupted == nil && err != nil && errors.Is(err, ctx.Err()) {
			interrupted = fmt.Errorf("%w: %w", context.Cause(ctx), err)
			if err := t.interrupt(); err != nil {
				return 0, 0, err
			}
			var cancel context.CancelFunc
			limit, cancel = context.WithTimeout(context.WithoutCancel(ctx), graceTime)
			defer cancel()
			st, err = t.wait(limit)
		}
		if err != nil {
			return 0, 0, t.lost("wait", err)
		}
		signal = 0
		switch {
		case st.StopSignal() == callStop && !entered:
			entered = true
		case st.StopSignal() == callStop:
			if err := unix.PtraceGetRegs(int(t), &r); err != nil {
				return 0, 0, t.lost("PTRACE_GETREGS", err)
			}
			if e := -int64(r.Rax); e <= 0 || e >= 4096 {
				if number == unix.SYS_CLONE && child == 0 { // which kill(2) takes for a process group
					return 0, 0, fmt.Errorf("%w: what was cloned isn't traced", errLost)
				}
				return r.Rax, child, nil
			} else if interrupted == nil {
				return r.Rax, 0, unix.Errno(e)
			}
			return r.Rax, 0, interrupted
		case event(st) == unix.PTRACE_EVENT_CLONE:
			id, err := unix.PtraceGetEventMsg(int(t))
			if err != nil {
				return 0, 0, t.lost("PTRACE_GETEVENTMSG", err)
			}
			child = tracee(id)
		case event(st) == 0: // SIGSTOP; nothing else gets through
			signal = st.StopSignal()
		case interrupted != nil && !entered:
			return 0, 0, interrupted
		}
	}
}

// interrupt stops the thread on its way back to user mode, where its registers
// say which call it would restart, as soon as it runs.
func (t tracee) interrupt() error {
	if err := unix.PtraceInterrupt(int(t)); err != nil {
		return t.lost("PTRACE_INTERRUPT", err)
	}
	return nil
}

// stopped waits until it is. Signals that come first are delivered.
func (t tracee) stopped(ctx context.Context) error {
	for {
		st, err := t.wait(ctx)
		if err != nil {
			return t.lost("wait", err)
		}
		signal := unix.Signal(0)
		switch event(st) {
		case unix.PTRACE_EVENT_STOP:
			return nil
		case 0:
			signal = st.StopSignal()
		}
		if err := t.resume(signal); err != nil {
			return err
		}
	}
}

func (t tracee) resume(signal unix.Signal) error {
	if err := unix.PtraceCont(int(t), int(signal)); err != nil {
		return t.lost("PTRACE_CONT", err)
	}
	return nil
}

// wait waits for the thread's next stop, and reaps it if it ends. The error at
// the end of ctx says what the thread was doing.
//
// A blocked wait4 can't be cancelled, so this one asks: again and again at
// first, since most calls take microseconds, then at growing intervals.
func (t tracee) wait(ctx context.Context) (unix.WaitStatus, error) {
	const spins = 200
	const maxPause = 5 * time.Millisecond
	pause := 20 * time.Microsecond
	for i := 0; ; i++ {
		var st unix.WaitStatus
		id, err := unix.Wait4(int(t), &st, unix.WALL|unix.WNOHANG, nil)
		switch {
		case err != nil && err != unix.EINTR:
			return 0, err
		case err == nil && id == int(t) && !st.Stopped():
			return 0, unix.ESRCH
		case err == nil && id == int(t):
			return st, nil
		case i < spins:
			unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, fmt.Errorf("%w: %s", err, t.state())
		}
		if pause == maxPause && t.zombie() {
			return 0, unix.ESRCH
		}
		time.Sleep(pause)
		pause = min(2*pause, maxPause)
	}
}

// zombie reports whether the thread has ended without wait4 saying so. That is
// the first thread of a process of which others haven't been reaped yet, which
// may be waiting for us.
func (t tracee) zombie() bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", int(t)))
	_, rest, _ := strings.Cut(string(stat), ") ") // the name may hold anything
	return strings.HasPrefix(rest, "Z")
}

// reap waits for the thread's end. It must be ending.
func (t tracee) reap(ctx context.Context) error {
	for {
		_, err := t.wait(ctx)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ECHILD) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
