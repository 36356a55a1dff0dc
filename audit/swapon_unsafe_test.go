package audit

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

func swapon(device string) error  { return onPath(unix.SYS_SWAPON, device) }
func swapoff(device string) error { return onPath(unix.SYS_SWAPOFF, device) }

// onPath makes a system call with a path and nothing else to say.
func onPath(call uintptr, path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(call, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
