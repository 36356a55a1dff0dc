// Package serial implements the parts of a 16550A UART that drivers use: both
// FIFOs, the receive, transmit and line status interrupts, loopback, and the
// modem lines of a connected peer.
//
// A goroutine writes the output, so that a slow terminal doesn't hold up a vCPU
// (see package sink). Input comes at a pace that leaves the guest time for other
// work (see receiver). Neither allocates per byte.
package serial

import (
	"io"
	"sync"

	"offmap/vmm/sink"
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
	// OnError, if not nil, is called when Out fails, when Out is stuck for so
	// long that output is lost, and when the interrupt line can't be driven:
	// once for each of the three, on a goroutine of the UART.
	OnError func(error)
}

// UART is a serial port. It implements bus.Device, Size bytes wide, and is
// safe for concurrent use.
type UART struct {
	irq     IRQ
	sent    func(byte)
	onError func(error)
	tx      *sink.Sink
	once    sync.Once // Close

	mu   sync.Mutex
	rx   receiver
	loop ring // from the transmitter, in loopback

	ier, fcr, lcr, mcr, scratch byte
	divisor                     [2]byte

	overrun   bool
	transmit  bool // the transmit interrupt is pending
	level     bool // the interrupt line is high
	irqFailed bool
	closed    bool
}

// New returns a UART in its reset state, and starts a goroutine, which Close ends.
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
	u.tx = sink.New(sink.Config{
		Name: "serial output", Out: cfg.Out, Ended: cfg.Ended, OnError: u.onError, OnRoom: u.drained,
	})
	return u
}

// Stop makes Close, now or later, wait at most half a second for an Out that is
// stuck. Any goroutine may call it at any time, Config's functions too.
func (u *UART) Stop() { u.tx.Stop() }

// Interrupts reports whether the guest has enabled an interrupt that can come: for
// input, or for room for output.
func (u *UART) Interrupts() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ier&(ierReceive|ierTransmit) != 0
}

// Close writes out what the guest has sent, and ends the UART's goroutine and every
// Input. It waits for Out while Out takes bytes, however slowly, and gives up after
// ten seconds without one (but see Stop). The error says how much output was lost
// since New, and why. A second Close does nothing and returns nil.
func (u *UART) Close() (err error) {
	u.once.Do(func() {
		u.mu.Lock()
		u.rx.close()
		u.closed = true
		u.mu.Unlock()
		err = u.tx.Close()
	})
	return err
}

// signal puts a token into c unless it has one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isClosed reports whether c, which nobody sends on, is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
