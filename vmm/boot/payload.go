package boot

import (
	"errors"

	"offmap/memory"
)

// PayloadConfig says how a payload starts.
type PayloadConfig struct {
	CPUs int   // 1 to MaxCPUs
	Ring uint8 // privilege level: 0 or 3
}

// Payload puts a bare payload (guest/payload) into guest RAM, with page
// tables that map all RAM onto itself, and returns the state of each vCPU.
// All of them start at the payload's first byte; see guest/payload for what
// they find. They are all runnable: with an in-kernel APIC, vCPUs other than
// the first need KVM_SET_MP_STATE to say so.
func Payload(g memory.Guest, image []byte, cfg PayloadConfig) ([]CPU, error) {
	return nil, errors.New("not written yet")
}

// Probe fills a guest as small as ProbePages pages with a CPL 3 program that
// writes and reads a word of every page that is left and ends the guest with
// exit code 0, and returns its vCPU's state.
func Probe(g memory.Guest) (CPU, error) {
	return CPU{}, errors.New("not written yet")
}

// ProbePages is the least RAM, in pages, that Probe works in.
const ProbePages = 5
