package agent

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// interruptible reads a file such as standard input until ctx ends. A plain
// Read of a terminal or an inherited pipe can't be cancelled. Its goroutine would
// stay behind and take input that another reader is to have.
type interruptible struct {
	ctx context.Context
	f   *os.File
}

// pollInterval is how long after the end of ctx a Read may still sit there.
const pollInterval = 50 // ms

func (r *interruptible) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(r.f.Fd()), Events: unix.POLLIN}}
	for {
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := unix.Poll(fds, pollInterval)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
		if n > 0 {
			return r.f.Read(p)
		}
	}
}
