// Package exposuremap records where the pages of a running guest are: which of
// them the host kernel can read through its direct map, which have memory that
// it can't, and which have none. A Recorder samples them, a Trace is what it
// recorded, as a JSON document, and package screen shows them on a terminal.
package exposuremap

import (
	"offmap/internal/measure/probe"
	"offmap/memory/attach"
)

// Schema is of the document that a Trace is written as.
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
	// CellBytes is the guest RAM that a cell of a map stands for, in whole
	// pages. The last cell's may be less.
	CellBytes uint64 `json:"cell_bytes"`
	// Interval is from one sample to the next, but for the first and the last,
	// which are before the guest starts and after it has ended.
	Interval float64 `json:"interval_ms"`
	// ToUserland is when the guest said that its userland runs, on the samples'
	// clock; null where it didn't.
	ToUserland *float64 `json:"to_userland_ms"`
	Samples    []Sample `json:"samples"` // at least one, at most MaxSamples
}

// Sample is one moment. Its four states add up to the guest's RAM.
type Sample struct {
	MS        float64 `json:"ms"` // since the machine was begun to be made
	Untouched uint64  `json:"untouched_bytes"`
	Hidden    uint64  `json:"hidden_bytes"`
	InWindow  uint64  `json:"in_window_bytes"`
	Ordinary  uint64  `json:"ordinary_bytes"`
	// ExposedPeak is the most that was exposed until then. A window keeps
	// count of it, so that it holds between samples too.
	ExposedPeak uint64 `json:"exposed_bytes_peak"`
	// Faults that the window's pager answered and exits of KVM_RUN, until then.
	Faults uint64 `json:"faults"`
	Exits  uint64 `json:"exits"`
	// Map are the cells from the start of guest RAM to its end, in its layout's
	// order. In the document "map" is their bytes, deflated (RFC 1951), in
	// base64 (RFC 4648, padded).
	Map []Cell `json:"-"`
}

// Exposed is what the host kernel can read of the guest, in bytes.
func (s Sample) Exposed() uint64 { return s.InWindow + s.Ordinary }

// cells is how many cells each map of the trace has.
func (t *Trace) cells() uint64 { return (t.Memory + t.CellBytes - 1) / t.CellBytes }
