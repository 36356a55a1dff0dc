// Package serial is a 16550A UART, as far as drivers use one: both FIFOs, the
// receive, transmit and line status interrupts, loopback, and modem lines that
// say that somebody is there.
//
// Bytes go out through a goroutine, so that a slow terminal is no vCPU's
// business (see transmitter), and come in through Input. Neither allocates per
// byte.
package serial

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// COM1 as a PC has it: I/O ports [COM1, COM1+Size) and an ISA interrupt.
const (
	COM1    = 0x3f8
	COM1IRQ = 4
	Size    = 8
)

// inputSize is how many bytes of input wait for the guest before Input blocks.
const inputSize = 4096

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

	mu    sync.Mutex
	space *sync.Cond // input has room, or closed

	input ring // from Input
	loop  ring // from the transmitter, in loopback

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
		input:   ring{buf: make([]byte, inputSize)},
		loop:    ring{buf: make([]byte, fifoSize)},
	}
	if u.onError == nil {
		u.onError = func(error) {}
	}
	u.space = sync.NewCond(&u.mu)
	u.tx = newTransmitter(cfg.Out, u.onError, u.drained)
	return u
}

// Input queues p for the guest. It blocks while the queue is full, and fails
// with os.ErrClosed once the UART is closed.
//
// The guest sees input only while it has the receive interrupt enabled, and
// clearing the FIFO doesn't drop it: as if it came in just after. Linux's
// driver clears the FIFO and reads it empty several times on its way to a
// first reader, and all that was typed or piped in until then would be lost.
func (u *UART) Input(p []byte) (n int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n < len(p) {
		for u.input.full() && !u.closed {
			u.space.Wait()
		}
		if u.closed {
			return n, fmt.Errorf("serial input: %w", os.ErrClosed)
		}
		for n < len(p) && !u.input.full() {
			u.input.push(p[n])
			n++
		}
		u.update()
	}
	return n, nil
}

// Close writes out what the guest has sent, and stops the UART's goroutine and
// every Input. An Out that is stuck is given a moment, then left behind. The
// error says that output was lost, and how much.
func (u *UART) Close() error {
	u.mu.Lock()
	u.closed = true
	u.space.Broadcast()
	u.mu.Unlock()
	return u.tx.close()
}
