package e2e

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// swap calls swapon(2) or swapoff(2).
func swap(call uintptr, device string) error {
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(call, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// addressOf returns the address of a mapping.
func addressOf(mem []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(mem))) }
