// Package signals has the kernel do with signals what os/signal can't: act on
// them when no goroutine of this process gets to run.
package signals

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Action is what a signal does: the system call's struct sigaction, which is
// handler, flags, restorer and mask (arch/x86/include/uapi/asm/signal.h).
type Action [4]uintptr

// Default gives a signal the action that it has in a program that knows nothing
// of it, and returns the one that it had. The Go runtime is passed by: its
// handler goes, which signal.Reset leaves in place, and it isn't told.
func Default(sig unix.Signal) (old Action, err error) { return swap(sig, Action{}) }

// Set gives a signal an action that Default returned.
func Set(sig unix.Signal, a Action) error {
	_, err := swap(sig, a)
	return err
}

// KillAfter has the kernel kill this process when so much time has passed, as
// with SIGKILL, unless cancel is called before. No thread of the process needs
// to run for it (timer_create(2)).
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
