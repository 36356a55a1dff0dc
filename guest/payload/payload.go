// Package payload has small bare guests, embedded as flat binaries. They run
// without a kernel, at CPL 3 with IOPL 3 where they can, because that is
// native on every KVM flavour.
package payload

import "errors"

// I/O ports between a payload and the VMM.
const (
	ConsolePort = 0x3f8 // COM1's transmit register: text
	EventPort   = 0x6f0 // a byte: something happened, EventUserland
	ExitPort    = 0x6f1 // a byte: end the guest with this exit code
)

// EventUserland, written to EventPort, says that the guest does its work now.
const EventUserland = 1

// Payload is one bare guest.
type Payload struct {
	Name  string
	About string // one line for people
	Ring  uint8  // privilege level that it must start at: 0 or 3
	Image []byte // flat, position-independent; not to be modified
}

// Lookup finds a payload by name; the error lists the names there are.
func Lookup(name string) (Payload, error) { return Payload{}, errors.New("not written yet") }

// Names lists the payloads in alphabetical order.
func Names() []string { return nil }
