package inject

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// signals is a set of signals as the kernel has it, one bit each.
type signals uint64

// everything but SIGKILL and SIGSTOP, which the kernel takes out.
const everything = ^signals(0)

func (t tracee) blocked() (mask signals, err error) {
	return mask, t.maskCall(unix.PTRACE_GETSIGMASK, &mask)
}

func (t tracee) block(mask signals) error { return t.maskCall(unix.PTRACE_SETSIGMASK, &mask) }

func (t tracee) maskCall(request uintptr, mask *signals) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, request, uintptr(t), unsafe.Sizeof(*mask), uintptr(unsafe.Pointer(mask)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
