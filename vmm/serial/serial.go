// Package serial is a 16550A UART, as far as drivers use one: both FIFOs, the
// receive, transmit and line status interrupts, loopback, and modem lines that
// say that somebody is there.
//
// Bytes go out through a goroutine, so that a slow terminal is no vCPU's
// business (see transmitter), and come in through Input, at a pace that leaves
// the guest time for other things (see receiver). Neither allocates per byte.
package serial

import (
	"io"
	"sync"
)

// COM1 as a PC has it: I/O ports [COM1, COM1+Size) and an ISA interrupt.
const (
	COM1    = 0x3f8
	COM1IRQ = 4
	Size    = 8
)

// IRQ is the UART's interrupt line.
type IRQ interface {
	SetLevel(high bool) error
}

// Config connects a UART.
type Config struct {
	Out io.Writer // what the guest sends; needs no buffering
	IRQ IRQ       // nil for none
	// Sent, if not nil, is told of each byte that the guest sends, before
	// the guest's next instruction: on the vCPU's thread, one call at a
	// time. It must be quick, and must not call the UART.
	Sent func(byte)
	// Ended, if not nil, is closed when the guest has ended: from then on
	// no vCPU waits for Out, and no Input for the guest.
	Ended <-chan struct{}
	// OnError is told, once each, that Out failed, that Out was stuck for
	// so long that output is lost, and that the interrupt line can't be
	// driven. It may be nil. It is called on a goroutine of the UART's.
	OnError func(error)
}

// UART is a serial port. It implements bus.Device, Size bytes wide, and is
// safe for concurrent use.
type UART struct {
	irq     IRQ
	sent    func(byte)
	onError func(error)
	tx      *transmitter
	once    sync.Once // Close

	mu   sync.Mutex
	rx   receiver
	loop ring // from the transmitter, in loopback

	ier, fcr, lcr, mcr, scratch byte
	divisor                     [2]byte

	overrun   bool
	transmit  bool // the transmit interrupt is pending
	level     bool // of the interrupt line
	irqFailed bool
	closed    bool
}

// New returns a UART at its reset state. It has a goroutine until Close.
func New(cfg Config) *UART {
	u := &UART{
		irq:     cfg.IRQ,
		sent:    cfg.Sent,
		onError: cfg.OnError,
		loop:    ring{buf: make([]byte, fifoSize)},
	}
	if u.onError == nil {
		u.onError = func(error) {}
	}
	u.rx = newReceiver(cfg.Ended, u.refill)
	u.tx = newTransmitter(cfg.Out, cfg.Ended, u.onError, u.drained)
	return u
}

// Stop has Close, now or later, leave an Out that is stuck behind after half a
// second. It may be called at any time and from anywhere, Config's functions
// included.
func (u *UART) Stop() { u.tx.stop() }

// Interrupts reports whether the guest has an interrupt enabled that can come:
// input, or room for output.
func (u *UART) Interrupts() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ier&(ierReceive|ierTransmit) != 0
}

// Close writes out what the guest has sent, and stops the UART's goroutine and
// every Input. It waits for Out as long as that takes bytes, however slowly,
// and leaves one behind that took none in ten seconds (but see Stop). The
// error says how much output was lost since New, and why. A second Close does
// nothing, and has nothing to say.
func (u *UART) Close() (err error) {
	u.once.Do(func() {
		u.mu.Lock()
		u.rx.close()
		u.closed = true
		u.mu.Unlock()
		err = u.tx.close()
	})
	return err
}
