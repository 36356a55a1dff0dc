// Package serial is a 16550A UART.
package serial

import "io"

// IRQ is the UART's interrupt line.
type IRQ interface {
	SetLevel(high bool) error
}

// Config connects a UART.
type Config struct {
	Out io.Writer // what the guest sends; needs no buffering
	IRQ IRQ       // nil for none
	// OnError is told, once each, that Out failed or lost bytes and that the
	// interrupt line could not be driven. May be nil. It is called on a
	// goroutine of the UART's or on a vCPU's thread, and must not call back.
	OnError func(error)
}

// UART implements bus.Device with Size registers.
type UART struct{ cfg Config }

// COM1 as a PC has it.
const (
	COM1    = 0x3f8
	COM1IRQ = 4
	Size    = 8
)

// New returns a UART at its reset state.
func New(cfg Config) *UART { return &UART{cfg} }

// Input queues p for the guest to read. It blocks while the queue is full,
// and fails when the UART has been closed.
func (u *UART) Input(p []byte) (int, error) { return 0, nil }

// Close writes out what the guest has sent and stops the UART's goroutine.
// It gives a stalled Out a moment, then says how many bytes were lost.
func (u *UART) Close() error { return nil }

// Read implements bus.Device.
func (u *UART) Read(off uint64, p []byte) {}

// Write implements bus.Device.
func (u *UART) Write(off uint64, p []byte) {}
