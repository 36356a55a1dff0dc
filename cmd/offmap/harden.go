package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps this process, which has a hidden guest's RAM mapped, from being
// dumped and from being traced by other processes of the same user. Guest RAM
// is left out of dumps anyway; registers and device buffers would not be.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("setrlimit RLIMIT_CORE to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	return nil
}
