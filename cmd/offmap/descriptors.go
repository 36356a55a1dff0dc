package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/internal/process/exitcode"
)

// spareDescriptors is more than the file descriptors of a guest with a few vCPUs.
const spareDescriptors = 32

// enoughDescriptors returns an error if fewer than spareDescriptors are left. Go's
// runtime ends the process if its poller gets none, and other code would fail halfway.
func enoughDescriptors() error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for len(fds) < spareDescriptors {
		fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return exitWith(exitcode.Cannot, tooFew(len(fds), err))
		}
		fds = append(fds, fd)
	}
	return nil
}

func tooFew(left int, err error) error {
	var lim unix.Rlimit
	if err == unix.EMFILE && unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		return fmt.Errorf("%d file descriptors are left of the %d that this process may have (RLIMIT_NOFILE), and it takes %d to start: "+
			"raise the limit (`ulimit -n 1024`, nofile in /etc/security/limits.conf, or LimitNOFILE= of the service)", left, lim.Max, spareDescriptors)
	}
	return fmt.Errorf("%d file descriptors are left, and it takes %d to start: %w", left, spareDescriptors, err)
}
