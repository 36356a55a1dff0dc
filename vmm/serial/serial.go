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

// Read implements bus.Device.
func (u *UART) Read(off uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range p {
		p[i] = u.load(off + uint64(i))
	}
	u.update()
}

// Write implements bus.Device. It waits for a moment at most when the guest
// sends although the transmitter is full.
func (u *UART) Write(off uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, v := range p {
		u.store(off+uint64(i), v)
	}
	u.update()
}

func (u *UART) dlab() bool   { return u.lcr&lcrDLAB != 0 }
func (u *UART) looped() bool { return u.mcr&mcrLoop != 0 }

// receiver is what the data register reads from, and how much of it is in the
// FIFO.
func (u *UART) receiver() (r *ring, n int) {
	switch {
	case u.looped():
		return &u.loop, u.loop.len()
	case u.ier&ierReceive != 0:
		return &u.input, min(u.input.len(), fifoSize)
	}
	return nil, 0
}

func (u *UART) load(reg uint64) byte {
	switch reg {
	case regData:
		if u.dlab() {
			return u.divisor[0]
		}
		r, n := u.receiver()
		if n == 0 {
			return 0
		}
		u.space.Broadcast()
		return r.pop()
	case regIER:
		if u.dlab() {
			return u.divisor[1]
		}
		return u.ier
	case regIIR:
		id := u.pending()
		if id == iirTransmit {
			u.transmit = false
		}
		if u.fcr&fcrEnable != 0 {
			id |= iirFIFO
		}
		return id
	case regLCR:
		return u.lcr
	case regMCR:
		return u.mcr
	case regLSR:
		return u.lineStatus()
	case regMSR:
		return u.modemStatus()
	case regScratch:
		return u.scratch
	}
	return 0xff
}

func (u *UART) store(reg uint64, v byte) {
	switch reg {
	case regData:
		switch {
		case u.dlab():
			u.divisor[0] = v
		case u.looped():
			u.overrun = u.overrun || u.loop.full()
			if !u.loop.full() {
				u.loop.push(v)
			}
			u.transmit = true
		default:
			u.send(v)
		}
	case regIER:
		if u.dlab() {
			u.divisor[1] = v
			return
		}
		was := u.ier
		u.ier = v & ierMask
		switch {
		case u.ier&^was&ierTransmit != 0:
			// Enabling it with the transmitter empty raises it, each time.
			u.transmit = u.tx.ready()
		case was&^u.ier&ierTransmit != 0:
			// The driver has nothing more to say for now.
			u.tx.flush()
		}
	case regIIR: // FCR
		if v&fcrClearReceive != 0 || (v^u.fcr)&fcrEnable != 0 {
			u.loop.clear()
		}
		if v&fcrEnable == 0 {
			v = 0 // the other bits want this one
		}
		u.fcr = v
	case regLCR:
		u.lcr = v
	case regMCR:
		if (v^u.mcr)&mcrLoop != 0 {
			u.loop.clear()
		}
		u.mcr = v & mcrMask
	case regScratch:
		u.scratch = v
	}
}

// send transmits v. The lock is dropped for it, since it may wait.
func (u *UART) send(v byte) {
	u.transmit = false
	u.mu.Unlock()
	u.tx.put(v)
	u.mu.Lock()
	u.transmit = u.tx.ready()
}

// drained is called when a transmitter that was full has room again.
func (u *UART) drained() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.transmit = true
	u.update()
}

// lineStatus reads LSR, which clears the error bits.
func (u *UART) lineStatus() (s byte) {
	if u.looped() || u.tx.ready() {
		s |= lsrEmpty
	}
	if _, n := u.receiver(); n > 0 {
		s |= lsrData
	}
	if u.overrun {
		s |= lsrOverrun
		u.overrun = false
	}
	return s
}

// modemStatus reads MSR: a peer that is always ready, or our own outputs in
// loopback. The lines don't change by themselves, so the delta bits stay 0.
func (u *UART) modemStatus() (s byte) {
	if !u.looped() {
		return msrCTS | msrDSR | msrDCD
	}
	for _, w := range [...]struct{ out, in byte }{
		{mcrRTS, msrCTS}, {mcrDTR, msrDSR}, {mcrOut1, msrRI}, {mcrOut2, msrDCD},
	} {
		if u.mcr&w.out != 0 {
			s |= w.in
		}
	}
	return s
}

// pending is the interrupt identification: the highest in priority, or none.
func (u *UART) pending() byte {
	_, received := u.receiver()
	switch {
	case u.ier&ierLine != 0 && u.overrun:
		return iirLine
	case u.ier&ierReceive != 0 && received > 0:
		if received < triggers[u.fcr>>fcrTriggerShift] {
			return iirReceiveTime
		}
		return iirReceive
	case u.ier&ierTransmit != 0 && u.transmit:
		return iirTransmit
	}
	return iirNone
}

// update drives the interrupt line to what the registers say. Everything that
// changes them ends with it.
func (u *UART) update() {
	level := u.pending() != iirNone
	if level == u.level || u.irq == nil {
		return
	}
	u.level = level
	if err := u.irq.SetLevel(level); err != nil && !u.irqFailed {
		u.irqFailed = true
		u.onError(fmt.Errorf("serial interrupt: %w", err))
	}
}
