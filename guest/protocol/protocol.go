// Package protocol is what the VMM and a guest of offmap's own have agreed on:
// I/O ports, the info block of a bare guest (package payload), words on the
// kernel's command line and lines on the console of a Linux guest (package
// initramfs). Both sides import it, and so does whoever reads a guest's
// console.
//
// A VMM must not trust any of it: every guest can write these ports and print
// these lines.
package protocol

// I/O ports of the VMM. A guest writes single bytes to them.
const (
	EventPort = 0x6f0 // an event, such as EventUserland
	ExitPort  = 0x6f1 // ends the guest with this exit code
	HaltPort  = 0x6f2 // any byte halts this vCPU: HLT for guests at CPL 3
)

// Events, which are what a guest writes to EventPort.
const (
	EventUserland = 1 // the guest's own work begins
	EventMark     = 2 // a moment whose meaning guest and loader have agreed on
)
