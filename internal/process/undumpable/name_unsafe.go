package undumpable

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setName names the thread. The kernel keeps 15 bytes (PR_SET_NAME, prctl(2)).
func setName(name string) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	err = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(p)), 0, 0, 0)
	runtime.KeepAlive(p)
	return err
}
