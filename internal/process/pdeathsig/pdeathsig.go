// Package pdeathsig starts processes that don't outlive this one.
package pdeathsig

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is exec.CommandContext for a process that Start starts. The end of ctx
// sends it SIGTERM and, 10 s later, SIGKILL. It has a process group of its own, so
// that Ctrl-C on the terminal reaches the caller only.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Start is cmd.Start for a process that the kernel kills when this one ends,
// however that comes about (PR_SET_PDEATHSIG, prctl(2)).
//
// The kernel looks at the thread that started the child, not at its process,
// and Go ends a thread when a goroutine returns that is locked to it, as a
// tracer's does that has lost its tracee (audit/inject). So a
// goroutine keeps the thread to itself until the child has ended.
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var pidfd int
	cmd.SysProcAttr.PidFD = &pidfd
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer unix.Close(pidfd)
		// Not wait4, which returns as well when this process stops the child by
		// ptrace.
		ended := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for {
			if _, err := unix.Poll(ended, -1); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return <-started
}
