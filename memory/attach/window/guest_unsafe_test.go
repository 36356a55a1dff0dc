package window

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The guest of these tests is system calls, which fault in the kernel, as KVM
// does. Go code must not fault on the window.

// guestWrite stores p at off of KVM's mapping.
func (w *Window) guestWrite(pipe [2]int, off uint64, p []byte) error {
	if _, err := unix.Write(pipe[1], p); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_READ, uintptr(pipe[0]), uintptr(unsafe.Add(w.file.kvm, off)), uintptr(len(p)))
	if errno != 0 {
		return errno
	}
	return nil
}

// guestRead loads p from off of KVM's mapping.
func (w *Window) guestRead(pipe [2]int, off uint64, p []byte) error {
	_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(pipe[1]), uintptr(unsafe.Add(w.file.kvm, off)), uintptr(len(p)))
	if errno != 0 {
		return errno
	}
	_, err := unix.Read(pipe[0], p)
	return err
}
