// Package guestrun has the JSON document of offmap run, a guest's run.
package guestrun

import (
	"io"

	"offmap/internal/jsondoc"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
)

// Schema is that of the document.
const Schema = "offmap/run/v1"

// Document is what offmap run prints with --json.
type Document struct {
	Schema  string         `json:"schema"`
	Host    probe.Host     `json:"host"`
	Backend memory.Backend `json:"backend"`
	// Attach is empty where the guest was refused.
	Attach         attach.Method      `json:"attach"`
	AttachRejected []attach.Rejection `json:"attach_rejected"`
	Memory         uint64             `json:"memory_bytes"`
	Populated      uint64             `json:"populated_bytes"`
	Exposed        uint64             `json:"exposed_bytes"`
	ExposedPeak    uint64             `json:"exposed_bytes_peak"`
	// Window and Faults are the attach window's only.
	Window uint64  `json:"window_bytes,omitempty"`
	Faults *Faults `json:"faults,omitempty"`
	// ToUserland is null where the guest didn't say that its userland runs.
	ToUserland *float64          `json:"to_userland_ms"`
	Exit       Exit              `json:"exit"`
	Exits      map[string]uint64 `json:"exits"` // of KVM_RUN, by reason
	// Devices are those that were asked for, in the order of their PCI slots.
	Devices []Device `json:"devices"`
}

// Faults are those that the window's pager answered.
type Faults struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
}

// Exit says how the guest ended. Code is offmap's exit code.
type Exit struct {
	Reason vmm.Reason `json:"reason"` // or Refused
	Code   int        `json:"code"`
	Detail string     `json:"detail,omitempty"`
}

// Refused is the reason of a guest that couldn't be started.
const Refused vmm.Reason = "refused"

// Read reads a document of offmap run.
func Read(r io.Reader) (*Document, error) {
	d := &Document{}
	return d, jsondoc.Read(r, Schema, d)
}

// Pair is the guest's backend and attach.
func (d *Document) Pair() attach.Pair { return attach.Pair{Backend: d.Backend, Attach: d.Attach} }
