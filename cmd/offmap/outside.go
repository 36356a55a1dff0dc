package main

import (
	"errors"
	"strings"

	"offmap/audit/canary"
	"offmap/internal/lab/outside"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
)

// outsideScan returns a function that searches this machine's RAM from outside. Only the
// lab has one; elsewhere it returns nil.
func outsideScan() func(...canary.Canary) ([]canary.Hits, error) {
	if !outside.Available() {
		return nil
	}
	return outside.Scan
}

// checkFreeze refuses --freeze-host in a lab that a freeze would break. Under Linux 7.3
// virtio-serial ports stay disconnected after a freeze, and offmap loses the machine.
// Linux 6.1 and 6.12 connect them again. Seen with QEMU 10.0.2.
func checkFreeze(wanted bool) error {
	if wanted && outside.Available() && strings.HasPrefix(probe.ThisHost().Kernel, "7.") {
		return exitWith(exitcode.Cannot, errors.New("--freeze-host: a lab machine with Linux 7.x loses its connections when it is frozen: use --kernel 6.12"))
	}
	return nil
}
