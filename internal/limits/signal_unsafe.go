package limits

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// defaultSIGBUS and defaultSIGABRT take the Go runtime's handler of a signal
// away, so that the signal ends the process as it would any program.
// signal.Reset leaves it in place.
func defaultSIGBUS() error  { return defaultAction(unix.SIGBUS) }
func defaultSIGABRT() error { return defaultAction(unix.SIGABRT) }

func defaultAction(sig unix.Signal) error {
	// struct sigaction of the system call: handler, flags, restorer, mask.
	var action [4]uintptr // SIG_DFL is 0
	_, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	return os.NewSyscallError("rt_sigaction", errnoOrNil(errno))
}

func errnoOrNil(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
