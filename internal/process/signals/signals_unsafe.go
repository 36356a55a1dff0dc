package signals

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func swap(sig unix.Signal, a Action) (old Action, err error) {
	_, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(&a)), uintptr(unsafe.Pointer(&old)), 8, 0, 0)
	return old, sysError("rt_sigaction", errno)
}

// sigevent is struct sigevent (include/uapi/asm-generic/siginfo.h), 64 bytes.
// Its notify is 0, SIGEV_SIGNAL: to the process.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [48]byte
}

func newTimer(sig unix.Signal) (id int32, err error) {
	event := sigevent{signo: int32(sig)}
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC,
		uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&id)))
	return id, sysError("timer_create", errno)
}

func startTimer(id int32, d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(d.Nanoseconds())}
	_, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(id), 0,
		uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	return sysError("timer_settime", errno)
}

func deleteTimer(id int32) error {
	_, _, errno := unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(id), 0, 0)
	return sysError("timer_delete", errno)
}
