package main

import (
	"errors"
	"strings"

	"offmap/audit/canary"
	"offmap/internal/lab/outside"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
)

// outsideScan returns what searches this machine's RAM from outside, or nil
// where there is no outside: only in the lab there is.
func outsideScan() func(...canary.Canary) ([]canary.Hits, error) {
	if !outside.Available() {
		return nil
	}
	return outside.Scan
}

// checkFreeze refuses what the lab wouldn't come back from: under Linux 7.3
// virtio-serial ports stay disconnected after a freeze (seen with QEMU 10.0.2;
// 6.1 and 6.12 connect them again), and all that goes through them with them.
func checkFreeze(wanted bool) error {
	if wanted && outside.Available() && strings.HasPrefix(probe.ThisHost().Kernel, "7.") {
		return exitWith(exitcode.Cannot, errors.New("--freeze-host: in the lab of Linux 7.x a frozen machine's connections don't come back; take --kernel 6.12"))
	}
	return nil
}
