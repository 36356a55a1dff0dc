package inside

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapon has the kernel swap to a device (swapon(2)).
func swapon(device string) error {
	path, err := unix.BytePtrFromString(device)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}
