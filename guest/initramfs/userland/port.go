package userland

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// outb writes b to an I/O port. Without the permission it raises SIGSEGV.
//
//go:noescape
func outb(port uint16, b byte)

// writePort writes b to an I/O port. It gets the permission for the port, or takes
// /dev/port if the kernel has no such permissions (no CONFIG_X86_IOPL_IOPERM). Debian's
// cloud kernels have no /dev/port (no CONFIG_DEVPORT).
func writePort(port uint16, b byte) error {
	runtime.LockOSThread() // the permission belongs to the thread
	defer runtime.UnlockOSThread()
	err := ioperm(port, true)
	if errors.Is(err, unix.ENOSYS) {
		f, devErr := os.OpenFile("/dev/port", os.O_WRONLY, 0)
		if devErr != nil {
			return errors.Join(err, devErr)
		}
		defer f.Close()
		_, devErr = f.WriteAt([]byte{b}, int64(port)) // mem(4)
		return devErr
	}
	if err != nil {
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
