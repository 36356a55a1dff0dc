// Package bench measures what guest memory costs: in each backend and attach
// that works here, on other VMMs, and in plain C as the baseline.
//
// A scenario takes one sample of one subject at a time. The runner goes round
// the subjects, so that what drifts on a machine drifts for all of them, and
// every sample starts from nothing: a guest that is measured is made for it,
// since where its pages happened to fall decides much of what is seen.
package bench

import (
	"context"
	"errors"

	"offmap/memory/attach"
)

// Subject is what a sample is taken of: guest memory in a backend, through an
// attach; or with Peer something else that does the same work.
type Subject struct {
	attach.Pair      // never with attach.Auto; of a peer, what it has of it
	Peer        Peer `json:"peer,omitempty"` // "" is offmap itself
}

// Peer is something other than offmap that a scenario can run.
type Peer string

// The peers. C is the baseline: the same system calls or memory accesses in a
// plain C program, without a VMM around them.
const (
	C       Peer = "c"
	Gokvm   Peer = "gokvm"
	MicroVM Peer = "qemu-microvm"
	Q35     Peer = "qemu-q35"
)

// String is how results name the subject: "secret+bridge", "memfd+direct", or
// a peer's name, with its backend if it has one ("c memfd").
func (s Subject) String() string {
	switch {
	case s.Peer != "" && s.Backend != "":
		return string(s.Peer) + " " + string(s.Backend)
	case s.Peer != "":
		return string(s.Peer)
	}
	return s.Pair.String()
}

// Metric is one figure that a scenario yields.
type Metric struct {
	// Name is in lower case, with dashes; a point of a curve ends in its X,
	// as in "chase/64KiB".
	Name string
	// Unit is a unit of Go's benchmark format: "ns/op", "B/s", "ns/page",
	// "sec", "B", "faults".
	Unit string
	// More says that more is better; otherwise less is.
	More bool
	// Curve, if not "", is what X is of: the metrics of a scenario with the
	// same Curve are points of one line.
	Curve string // such as "working set"
	X     float64
	XUnit string // such as "B"
}

// Scenario is something to measure.
type Scenario struct {
	Name  string // in lower case, with dashes
	About string // one line for people: what is measured, and how
	// Metrics are what Sample returns, in its order.
	Metrics []Metric
	// Native scenarios say something only of hardware that runs the guest's
	// instructions itself. They are refused where KVM or the machine below it
	// emulates them.
	Native bool
	// Slow scenarios are left out of a quick run, unless they are asked for.
	Slow bool
	// Subjects are those that the scenario can be measured for, of the pairs
	// that work here. The first one is not special.
	Subjects func(e *Env, working []Subject) []Subject
	// Sample measures a subject once, from nothing, and leaves nothing behind.
	// A NaN stands for a metric that the subject hasn't got. Errors that wrap
	// ErrCannot are told, and the subject isn't asked again; nor is it after
	// any other than one that wraps ErrLost.
	Sample func(ctx context.Context, e *Env, s Subject) ([]float64, error)
}

// ErrCannot is what a scenario wraps where a subject can't be measured here.
var ErrCannot = errors.New("can't be measured here")

// ErrLost is what a scenario wraps where a sample came to nothing through a
// peer that fails now and then: the subject is asked again, and the loss told.
var ErrLost = errors.New("lost")

// ErrEmulated wraps ErrCannot: KVM interpreted the guest's instructions, so that
// times of it say nothing of memory.
var ErrEmulated = emulatedError{}

type emulatedError struct{}

func (emulatedError) Error() string { return "the guest was emulated, and its times say nothing" }
func (emulatedError) Unwrap() error { return ErrCannot }

// Env is what scenarios find on this host.
type Env struct {
	Host Host
	// Quick asks for the smallest sizes that still say something.
	Quick bool
	// Baseline is the program of package baseline, or "" if there is none.
	Baseline string
	// Peers are the programs of other VMMs that are here.
	Peers map[Peer]string
	// Kernel and Initrd are files of a Linux guest to boot, or "".
	Kernel, Initrd string
}
