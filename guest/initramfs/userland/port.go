package userland

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// outb writes b to an I/O port. Without the permission it raises SIGSEGV.
//
//go:noescape
func outb(port uint16, b byte)

// writePort gets the permission for an I/O port and writes b to it. It doesn't use
// /dev/port, because Debian's cloud kernels are built without CONFIG_DEVPORT.
func writePort(port uint16, b byte) error {
	runtime.LockOSThread() // the permission belongs to the thread
	defer runtime.UnlockOSThread()
	if err := ioperm(port, true); err != nil {
		return err
	}
	outb(port, b)
	return ioperm(port, false)
}

// ioperm gives this thread the permission to use an I/O port, or takes it back
// (ioperm(2)).
func ioperm(port uint16, on bool) error {
	turn := uintptr(0)
	if on {
		turn = 1
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_IOPERM, uintptr(port), 1, turn); errno != 0 {
		return fmt.Errorf("ioperm of port %#x: %w", port, errno)
	}
	return nil
}
