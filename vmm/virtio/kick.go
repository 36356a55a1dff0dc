package virtio

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"offmap/internal/process/yield"
)

// Kick is an eventfd by which a driver tells a device that it has made requests
// available (§2.3, available buffer notification). KVM can signal it without the
// vCPU's thread.
type Kick struct {
	fd int

	// Of wait, which one goroutine calls at a time.
	buf   [8]byte
	yield yield.Ticker
}

// NewKick makes an eventfd.
func NewKick() (*Kick, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &Kick{fd: fd}, nil
}

// FD returns the descriptor, for KVM_IOEVENTFD. The Kick owns it.
func (k *Kick) FD() int { return k.fd }

// Signal wakes the queue that waits, or the one that waits next.
func (k *Kick) Signal() {
	one := [8]byte{1}
	// It can't block: the counter would have to be at 2⁶⁴-2 first.
	_, _ = unix.Write(k.fd, one[:])
}

// wait waits until Signal was called since the last wait. It is a blocking read, one
// system call. Go's poller and poll(2) take two, and the goroutine runs later.
func (k *Kick) wait() error {
	k.yield.Tick()
	for {
		_, err := unix.Read(k.fd, k.buf[:])
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("read of eventfd", err)
		}
	}
}

// Close closes the descriptor. Nobody waits any more.
func (k *Kick) Close() error { return os.NewSyscallError("close", unix.Close(k.fd)) }
