package bench

import (
	"offmap/internal/measure/probe"
)

// Schema is of the JSON document that offmap bench prints.
const Schema = "offmap/bench/v1"

// Host says where a run was made.
type Host struct {
	probe.Host
	// Governor is the CPUs' frequency governor, or "" where none is known.
	Governor string `json:"governor,omitempty"`
	// THP is transparent_hugepage/enabled, which decides the page size of anon.
	THP string `json:"transparent_hugepage,omitempty"`
	// ShmemTHP is transparent_hugepage/shmem_enabled, which does for memfd.
	ShmemTHP string `json:"shmem_enabled,omitempty"`
}

// Document is what a run of offmap bench came to.
type Document struct {
	Schema string `json:"schema"`
	Host   Host   `json:"host"`
	// Started is when, in RFC 3339; Seconds how long it took.
	Started string   `json:"started"`
	Seconds float64  `json:"seconds"`
	Args    []string `json:"args"` // of the command, to run it again
	// Quick says that everything was small, and that time was short.
	Quick bool `json:"quick"`
	// Partial says that the run was stopped before its end.
	Partial bool     `json:"partial"`
	Results []Result `json:"results"`
	// Unavailable are pairs of backend and attach that don't work here.
	Unavailable []Unavailable `json:"unavailable"`
}

// Unavailable is what couldn't be measured, and why.
type Unavailable struct {
	Subject
	Reason string `json:"reason"`
	// Asked says that it was asked for by name.
	Asked bool `json:"asked"`
}

// Status is what became of a result.
type Status string

// The statuses. Refused results have no values: they would say nothing.
const (
	Measured Status = "measured"
	Partial  Status = "partial" // fewer values than asked for
	Refused  Status = "refused"
	Failed   Status = "failed"
)

// Result is one metric of one subject.
type Result struct {
	// Name is "scenario/metric".
	Name string `json:"name"`
	Subject
	Unit  string  `json:"unit"`
	More  bool    `json:"more_is_better"`
	Curve string  `json:"curve,omitempty"`
	X     float64 `json:"x,omitempty"`
	XUnit string  `json:"x_unit,omitempty"`
	// Page is the size of the backend's pages in bytes, 0 where it has none
	// or the kernel chooses.
	Page uint64 `json:"page_bytes,omitempty"`
	// Accel is the host's: kvm, pvm or tcg. Figures of different ones are
	// never compared.
	Accel  string    `json:"accel"`
	Status Status    `json:"status"`
	Reason string    `json:"reason,omitempty"`
	Values []float64 `json:"values"` // raw, in the order taken
	// Median, with an interval that holds it with Confidence; Low and High
	// are those of a median, so the interval isn't symmetric.
	Median     float64 `json:"median"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	Confidence float64 `json:"confidence"`
	// Against compares with ordinary memory, nil for that itself and for the
	// baselines, AgainstBaseline with plain C in memory of the same backend, or
	// where no memory matters. Both are nil where there is nothing to compare
	// with.
	Against         *Comparison `json:"against,omitempty"`
	AgainstBaseline *Comparison `json:"against_floor,omitempty"`
}

// Comparison is a result beside the same metric of another subject.
type Comparison struct {
	Subject string `json:"subject"` // the other one
	// Ratio is that of the medians, 0 where the other one's is 0.
	Ratio float64 `json:"ratio"`
	P     float64 `json:"p"` // Mann-Whitney
	// Verdict is "better", "worse", "no difference seen" or "too few values".
	Verdict string `json:"verdict"`
}
