package uffd

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl is the package's gateway for requests that take a number.
func ioctl(fd int, req, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// ioctlStruct is ioctl with a structure, which stays where it is for the call.
//
// It doesn't tell Go's scheduler of the call, nor does read: neither waits for
// anything that another goroutine does, they take microseconds, and on the way
// of every fault the scheduler's part would cost more than that.
func ioctlStruct[T any](fd int, req uintptr, arg *T) error {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(unsafe.Pointer(arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

func userfaultfd(flags uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, flags, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// read reads whole messages.
func (r *Range) read(f *Faults) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(r.fd),
		uintptr(unsafe.Pointer(&f.msgs)), unsafe.Sizeof(f.msgs))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
