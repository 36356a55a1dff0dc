// Package exposuremap records the state of a running guest's pages: exposed ones
// are in the host kernel's direct map, hidden ones have memory outside of it, and
// untouched ones have no memory. A Recorder samples them into a Trace, which is a
// JSON document. Package screen shows them on a terminal.
package exposuremap

import (
	"offmap/internal/measure/probe"
	"offmap/memory/attach"
)

// Schema is the schema of a Trace's document.
const Schema = "offmap/exposure/v1"

// Bounds of a Trace, whatever the size of the guest and the length of its run.
const (
	MaxCells   = 4096
	MaxSamples = 1024
)

// Trace is one run of a guest.
type Trace struct {
	Schema      string     `json:"schema"`
	Host        probe.Host `json:"host"`
	Started     string     `json:"started"` // RFC 3339
	Guest       string     `json:"guest"`   // for people: "payload zipf", "debian:6.1"
	CPUs        int        `json:"vcpus"`
	attach.Pair            // never with attach.Auto
	Memory      uint64     `json:"memory_bytes"`
	// Window is the bound of attach window, and 0 elsewhere.
	Window uint64 `json:"window_bytes,omitempty"`
	// CellBytes is the guest RAM of a cell, in whole pages. The last cell may
	// have less.
	CellBytes uint64 `json:"cell_bytes"`
	// Interval is the time between two samples. The first is taken before the
	// guest starts and the last after its end, at other intervals.
	Interval float64 `json:"interval_ms"`
	// ToUserland is the time at which the guest said that its userland runs, on
	// the samples' clock; null if it didn't.
	ToUserland *float64 `json:"to_userland_ms"`
	Samples    []Sample `json:"samples"` // at least one, at most MaxSamples
}

// Sample is the guest at one moment. Its four states add up to the guest's RAM.
type Sample struct {
	MS        float64 `json:"ms"` // since the machine was begun to be made
	Untouched uint64  `json:"untouched_bytes"`
	Hidden    uint64  `json:"hidden_bytes"`
	InWindow  uint64  `json:"in_window_bytes"`
	Ordinary  uint64  `json:"ordinary_bytes"`
	// ExposedPeak is the most that was exposed until then. The window's pager
	// counts it, so peaks between two samples are in it.
	ExposedPeak uint64 `json:"exposed_bytes_peak"`
	// Faults that the window's pager answered and exits of KVM_RUN, until then.
	Faults uint64 `json:"faults"`
	Exits  uint64 `json:"exits"`
	// Map is the cells in the order of the memory layout. The document has
	// them in "map": one byte each, deflated (RFC 1951), in base64 (RFC 4648,
	// padded).
	Map []Cell `json:"-"`
}

// Exposed returns how many bytes of the guest are in the direct map.
func (s Sample) Exposed() uint64 { return s.InWindow + s.Ordinary }

// cells returns the number of cells of each map.
func (t *Trace) cells() uint64 { return (t.Memory + t.CellBytes - 1) / t.CellBytes }
