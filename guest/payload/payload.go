// Package payload has small bare guests, embedded as flat binaries. They run without
// a kernel, at CPL 3 with IOPL 3 if they can, because guest user code runs natively
// on every kind of KVM.
//
// A payload is position-independent. All vCPUs start at its first byte at the same
// time, in 64-bit mode with an identity mapping of all RAM and of the PCI hole. RDI has the vCPU's
// number, RSI the address of an info block (package protocol), and RSP a stack of the
// vCPU's own. The IDT is empty, so an exception is a triple fault unless the payload
// has set up an IDT. The comment in a payload's source says what its arguments mean
// and what it prints. It writes single bytes to the serial port and to the I/O ports
// of package protocol.
package payload

import (
	"embed"
	"fmt"
	"strings"
)

// The formats, for fmt.Sscanf, of the lines that payloads print when they have
// measured. Cycles are those of the guest's TSC.
const (
	BlkReport   = "blk: %d requests of %d bytes done and checked, %d cycles, %d MB/s\n"
	ChurnReport = "churn: %d rounds over %d pages, %d cycles\n"
	// The number of exits of each kind, and the cycles of each kind.
	ExitsReport = "exits: %d of each, %d cycles of port writes, %d of port reads, %d of memory reads\n"
	ZipfReport  = "zipf: %d accesses to %d pages, %d cycles\n" // accesses of all vCPUs
	// Cycles of reads and writes in sequence, then at random, for each buffer.
	UncachedReport = "uncached: %d accesses, first buffer %d %d %d %d, second %d %d %d %d cycles\n"
)

// Payload is one bare guest.
type Payload struct {
	Name  string
	About string // a description of one line
	Ring  uint8  // the privilege level that it must start at: 0 or 3
}

//go:generate sh asm/build.sh

//go:embed asm/*.bin
var images embed.FS

// In alphabetical order.
var payloads = []Payload{
	{"bench", "measures memory accesses, by a program that its loader gives it; EncodeBench", 3},
	{"blk", "reads a disk (--disk) and measures that; BlkReport", 3},
	{"canary", "plants a canary for the host to look for, and waits for a byte of input", 0},
	{"churn", "measures how fast a working set is touched; ChurnReport", 3},
	{"exits", "measures exits that no device answers; ExitsReport", 3},
	{"hello", "every vCPU says a line", 3},
	{"hostile", "attacks its host by all that a guest can do, at random", 0},
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

// Lookup finds a payload by name. Its error lists the names.
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
