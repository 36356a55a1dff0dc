// Package payload has small bare guests, embedded as flat binaries. They run
// without a kernel, at CPL 3 with IOPL 3 where they can, because guest user
// code is native on every KVM flavour.
//
// A payload is position-independent and starts at its first byte, on every
// vCPU at once, in 64-bit mode with all RAM mapped onto itself. It finds the
// number of its vCPU in RDI, the address of an info block (package protocol) in
// RSI, a stack of its own in RSP, and an empty IDT: an exception that it hasn't
// prepared for is a triple fault. The comment in its source says what its
// arguments mean and what it prints. It writes single bytes to the serial port
// and to the I/O ports of package protocol.
package payload

import (
	"embed"
	"fmt"
	"strings"
)

// What payloads that measure say when they are done, for fmt.Sscanf. Cycles
// are the guest's TSC's.
const (
	ChurnReport = "churn: %d rounds over %d pages, %d cycles\n"
	// Exits of each kind, by what caused them.
	ExitsReport = "exits: %d of each, %d cycles of port writes, %d of port reads, %d of memory reads\n"
	ZipfReport  = "zipf: %d accesses to %d pages, %d cycles\n" // accesses of all vCPUs
	// Reads and writes in sequence, then at random, of each buffer.
	UncachedReport = "uncached: %d accesses, first buffer %d %d %d %d, second %d %d %d %d cycles\n"
)

// Payload is one bare guest.
type Payload struct {
	Name  string
	About string // one line for people
	Ring  uint8  // privilege level that it must start at: 0 or 3
}

//go:generate sh asm/build.sh

//go:embed asm/*.bin
var images embed.FS

// In alphabetical order.
var payloads = []Payload{
	{"bench", "measures memory accesses, by a program that its loader gives it; EncodeBench", 3},
	{"canary", "plants a canary for the host to look for, and waits for a byte of input", 0},
	{"churn", "measures how fast a working set is touched; ChurnReport", 3},
	{"exits", "measures exits that no device answers; ExitsReport", 3},
	{"hello", "every vCPU says a line", 3},
	{"kvmclock", "writes the MSRs that make a host write to guest RAM; exits with the number accepted", 0},
	{"shuffle", "all vCPUs update all pages in random order and check that nothing is lost or torn", 3},
	{"touch", "writes and verifies a pattern over all RAM, on all vCPUs", 3},
	{"uncached", "measures reads and writes of two buffers, of which its loader may map the second uncached; UncachedReport", 3},
	{"zipf", "measures accesses that go to some pages far more often than to others; ZipfReport", 3},
}

// Image returns a copy of the payload's code and data.
func (p Payload) Image() []byte {
	b, err := images.ReadFile("asm/" + p.Name + ".bin")
	if err != nil {
		panic(err) // the table and the embedded files are both fixed at build time
	}
	return b
}

// Lookup finds a payload by name; its error lists the names there are.
func Lookup(name string) (Payload, error) {
	for _, p := range payloads {
		if p.Name == name {
			return p, nil
		}
	}
	return Payload{}, fmt.Errorf("no payload %q: there are %s", name, strings.Join(Names(), ", "))
}

// Names lists the payloads in alphabetical order.
func Names() []string {
	names := make([]string, len(payloads))
	for i, p := range payloads {
		names[i] = p.Name
	}
	return names
}
