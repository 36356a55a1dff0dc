package userland

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// outb writes b to an I/O port; without permission that is a SIGSEGV.
//
//go:noescape
func outb(port uint16, b byte)

// writePort gets the permission and writes b to an I/O port. Not through
// /dev/port: Debian's cloud kernels are built without CONFIG_DEVPORT.
func writePort(port uint16, b byte) error {
	// The permission is one thread's, ioperm(2).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPERM, uintptr(port), 1, 1); errno != 0 {
		return fmt.Errorf("ioperm of port %#x: %w", port, errno)
	}
	outb(port, b)
	unix.RawSyscall(unix.SYS_IOPERM, uintptr(port), 1, 0)
	return nil
}
