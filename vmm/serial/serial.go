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
	// OnError is told, once each, that Out failed, that Out stalled for so
	// long that output is lost, and that the interrupt line can't be
	// driven. It may be nil. It is called on a vCPU's thread or a goroutine
	// of the UART's, and must not call the UART.
	OnError func(error)
}

// UART is a serial port. It implements bus.Device, Size bytes wide, and is
// safe for concurrent use.
type UART struct {
	irq     IRQ
	onError func(error)
	tx      *transmitter

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
		onError: cfg.OnError,
		loop:    ring{buf: make([]byte, fifoSize)},
	}
	if u.onError == nil {
		u.onError = func(error) {}
	}
	u.rx = newReceiver(u.refill)
	u.tx = newTransmitter(cfg.Out, u.onError, u.drained)
	return u
}

// Close writes out what the guest has sent, and stops the UART's goroutine and
// every Input. An Out that is stuck is given a moment, then left behind. The
// error says that output was lost, and how much.
func (u *UART) Close() error {
	u.mu.Lock()
	u.rx.close()
	u.closed = true
	u.mu.Unlock()
	return u.tx.close()
}
