package inject

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Fork forks the process and calls f with the child's only thread, which is
// ours: none of the process's code runs in it. It is killed at the end, and no
// signal tells the process that it had a child.
func (t *Thread) Fork(f func(*Thread) error) (err error) {
	// Signal 0 at its end instead of SIGCHLD.
	theirs, pid, err := t.make(t.ctx, t.page, unix.SYS_CLONE, 0, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	defer func() { err = errors.Join(err, t.bury(pid, theirs)) }()
	child, err := adopt(context.WithoutCancel(t.ctx), pid, t.page, t.foreign)
	if err != nil {
		return fmt.Errorf("fork: %w", err)
	}
	child.pid, child.ctx = int(pid), t.ctx
	return f(child)
}

// bury ends a child process, which its parent knows by another ID if it is in
// another PID namespace.
func (t *Thread) bury(pid tracee, theirs uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), graceTime)
	defer cancel()
	if err := unix.Kill(int(pid), unix.SIGKILL); err != nil {
		return fmt.Errorf("kill of the child %d: %w", pid, err)
	}
	if err := pid.reap(ctx); err != nil {
		return fmt.Errorf("end of the child %d: %w", pid, err)
	}
	_, err := t.callIn(context.WithoutCancel(t.ctx), t.page, unix.SYS_WAIT4, theirs, 0, unix.WALL, 0)
	return err
}
