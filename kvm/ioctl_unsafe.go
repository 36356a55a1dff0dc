package kvm

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
)

// ioctl is the package's one gateway to the kernel. EINTR is returned: only
// the caller knows whether its call may be repeated, and KVM_RUN's may not.
func ioctl(fd int, req, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, arg)
	if errno != 0 {
		return -1, failed(errno)
	}
	return int(r), nil
}

// failed returns an ioctl's errno as an error. KVM checks no privilege but the right
// to open its device: an errno that says otherwise is from a seccomp filter or a
// security module.
func failed(errno unix.Errno) error {
	switch errno {
	case unix.EPERM, unix.EACCES, unix.ENOSYS:
		return sandbox.Judge("ioctl", errno)
	}
	return errno
}

// ioctlPtr is ioctl with a structure. The pointer stays an unsafe.Pointer
// until the system call's own expression, which keeps the structure alive and
// in its place.
func ioctlPtr(fd int, req uintptr, arg unsafe.Pointer) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
	if errno != 0 {
		return -1, failed(errno)
	}
	return int(r), nil
}

// ioctlStruct is ioctlPtr for a typed structure.
func ioctlStruct[T any](fd int, req uintptr, arg *T) error {
	_, err := ioctlPtr(fd, req, unsafe.Pointer(arg))
	return err
}

// ioctlStructFD is ioctlStruct for a request that answers with a descriptor.
func ioctlStructFD[T any](fd int, req uintptr, arg *T) (int, error) {
	return ioctlPtr(fd, req, unsafe.Pointer(arg))
}
