// Package signals sets what the kernel does at a signal when no goroutine of this
// process gets to run.
package signals

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Action is what a signal does: the system call's struct sigaction, which is
// handler, flags, restorer and mask (arch/x86/include/uapi/asm/signal.h).
type Action [4]uintptr

// Default sets a signal's action to the kernel's default (SIG_DFL), and returns the
// one before. It also removes the Go runtime's handler, which signal.Reset leaves in
// place, and the runtime doesn't notice.
func Default(sig unix.Signal) (old Action, err error) { return swap(sig, Action{}) }

// Set gives a signal an action that Default returned.
func Set(sig unix.Signal, a Action) error {
	_, err := swap(sig, a)
	return err
}

// KillAfter has the kernel kill this process with SIGKILL after that time, unless
// cancel is called before. No thread of the process has to run for that
// (timer_create(2)).
func KillAfter(d time.Duration) (cancel func() error, err error) {
	id, err := newTimer(unix.SIGKILL)
	if err != nil {
		return nil, err
	}
	cancel = func() error { return deleteTimer(id) }
	if err := startTimer(id, d); err != nil {
		_ = cancel() // it doesn't run
		return nil, err
	}
	return cancel, nil
}

func sysError(call string, errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return os.NewSyscallError(call, errno)
}
