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

// guestIs reports whether the word at off of KVM's mapping is val, which it loads at
// once, as a CPU does and read and write need not.
func (w *Window) guestIs(off uint64, val uint32) (bool, error) {
	const cmpRequeue = 4 // FUTEX_CMP_REQUEUE, of no waiters
	word := uintptr(unsafe.Add(w.file.kvm, off))
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, word, cmpRequeue, 0, 0, word, uintptr(val))
	if errno == unix.EAGAIN {
		return false, nil
	}
	if errno != 0 {
		return false, errno
	}
	return true, nil
}

// guestIncrement adds 1 to the word at off of KVM's mapping, at once.
func (w *Window) guestIncrement(off uint64) error {
	const wakeOp, add = 5, 1<<28 | 1<<12 // FUTEX_WAKE_OP, FUTEX_OP(FUTEX_OP_ADD, 1, ...)
	word := uintptr(unsafe.Add(w.file.kvm, off))
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, word, wakeOp, 0, 0, word, add)
	if errno != 0 {
		return errno
	}
	return nil
}
