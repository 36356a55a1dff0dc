package bench

import (
	"context"
	"errors"

	"offmap/memory/attach"
)

// Subject is what is measured: guest memory in a backend, through an attach, or, if
// Peer is set, another program that does the same work.
type Subject struct {
	attach.Pair      // never with attach.Auto; a peer may have only a backend, or neither
	Peer        Peer `json:"peer,omitempty"` // "" is offmap itself
}

// Peer is a program other than offmap that a scenario can run.
type Peer string

// The peers. C is the baseline, a C program that makes the same system calls or
// memory accesses without a VMM.
const (
	C       Peer = "c"
	Gokvm   Peer = "gokvm"
	MicroVM Peer = "qemu-microvm"
	Q35     Peer = "qemu-q35"
)

// String returns the subject's name in results: a pair such as "secret+bridge", or
// a peer, with its backend if it has one, such as "c memfd".
func (s Subject) String() string {
	switch {
	case s.Peer != "" && s.Backend != "":
		return string(s.Peer) + " " + string(s.Backend)
	case s.Peer != "":
		return string(s.Peer)
	}
	return s.Pair.String()
}

// Metric is one kind of value that a scenario measures.
type Metric struct {
	// Name is in lower case, with dashes. That of a point of a curve ends in
	// its X, as in "chase/64KiB".
	Name string
	// Unit is a unit of Go's benchmark format: "ns/op", "B/s", "ns/page",
	// "sec", "B", "faults".
	Unit string
	// More is set if a higher value is better.
	More bool
	// Curve, if not "", names the quantity X. The metrics of a scenario with
	// the same Curve are points of one line.
	Curve string // such as "working set"
	X     float64
	XUnit string // such as "B"
}

// Scenario is something to measure.
type Scenario struct {
	Name  string // in lower case, with dashes
	About string // one line: what is measured, and how
	// Metrics are those of the values that Sample returns, in the same order.
	Metrics []Metric
	// Native is set if the values have a meaning only where the CPU runs the
	// guest's instructions. The scenario is refused where KVM, or the machine
	// below it, emulates them.
	Native bool
	// Slow is set if a quick run leaves the scenario out, unless it was asked
	// for by name.
	Slow bool
	// Subjects returns the subjects of the scenario, given the pairs that work
	// on this host.
	Subjects func(e *Env, working []Subject) []Subject
	// Sample measures a subject once, and leaves nothing behind. A NaN stands
	// for a metric that the subject doesn't have. After an error that wraps
	// ErrLost the subject is sampled again; after any other it isn't, and it
	// counts as refused if the error wraps ErrCannot, and as failed otherwise.
	Sample func(ctx context.Context, e *Env, s Subject) ([]float64, error)
}

// ErrCannot is wrapped by errors of Sample when a subject can't be measured on this
// host.
var ErrCannot = errors.New("can't be measured here")

// ErrLost is wrapped by errors of Sample when a sample failed because of a peer that
// fails now and then.
var ErrLost = errors.New("lost")

// ErrEmulated is returned by Sample if KVM interpreted the guest's instructions, so
// that its times have no meaning. It wraps ErrCannot.
var ErrEmulated = emulatedError{}

type emulatedError struct{}

func (emulatedError) Error() string { return "KVM emulated the guest, so its times have no meaning" }
func (emulatedError) Unwrap() error { return ErrCannot }

// Env is what a host offers to scenarios.
type Env struct {
	Host Host
	// Quick asks for the smallest sizes with meaningful values.
	Quick bool
	// Baseline is the path of the program of package baseline, or "".
	Baseline string
	// Peers are the paths of other VMMs' programs.
	Peers map[Peer]string
	// Kernel and Initrd are paths of a Linux guest to boot, or "".
	Kernel, Initrd string
}
