package bench

import (
	"offmap/internal/measure/probe"
)

// Schema names the version of the JSON document that offmap bench prints.
const Schema = "offmap/bench/v1"

// Host describes the host of a run.
type Host struct {
	probe.Host
	// Governor is the CPUs' frequency governor, or "" if there is none.
	Governor string `json:"governor,omitempty"`
	// THP is transparent_hugepage/enabled, which determines anon's page size.
	THP string `json:"transparent_hugepage,omitempty"`
	// ShmemTHP is transparent_hugepage/shmem_enabled, which determines memfd's.
	ShmemTHP string `json:"shmem_enabled,omitempty"`
}

// Document is the result of a run of offmap bench.
type Document struct {
	Schema string `json:"schema"`
	Host   Host   `json:"host"`
	// Started is the time of the start in RFC 3339, Seconds the run's duration.
	Started string   `json:"started"`
	Seconds float64  `json:"seconds"`
	Args    []string `json:"args"` // the command's arguments
	// Quick is set for a run with --quick: smaller sizes, and limited time.
	Quick bool `json:"quick"`
	// Partial is set if the run was stopped before its end.
	Partial bool     `json:"partial"`
	Results []Result `json:"results"`
	// Unavailable are the pairs of backend and attach that don't work on the
	// host.
	Unavailable []Unavailable `json:"unavailable"`
}

// Unavailable is a subject that couldn't be measured, and why.
type Unavailable struct {
	Subject
	Reason string `json:"reason"`
	// Asked is set if the user asked for the subject by name.
	Asked bool `json:"asked"`
}

// Status is the status of a result.
type Status string

// The statuses. Refused and failed results have no values.
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
	// Page is the size of the backend's pages in bytes, 0 if there is no
	// backend or the kernel chooses the size.
	Page uint64 `json:"page_bytes,omitempty"`
	// Accel is the host's: kvm, pvm or tcg. Results of different ones are never
	// compared.
	Accel  string    `json:"accel"`
	Status Status    `json:"status"`
	Reason string    `json:"reason,omitempty"`
	Values []float64 `json:"values"` // in the order taken
	// Median is the median of Values. With probability Confidence, the true
	// median is between Low and High, which needn't be symmetric.
	Median     float64 `json:"median"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	Confidence float64 `json:"confidence"`
	// Against is the comparison with ordinary memory. AgainstBaseline is the
	// one with plain C in memory of the same backend, or without a backend.
	// Each is nil if there is nothing to compare with, and both are for plain C.
	Against         *Comparison `json:"against,omitempty"`
	AgainstBaseline *Comparison `json:"against_floor,omitempty"`
}

// Comparison is the comparison of a result with that of another subject for the
// same metric.
type Comparison struct {
	Subject string `json:"subject"` // the other one
	// Ratio is the ratio of the medians, or 0 if the other one's is 0.
	Ratio float64 `json:"ratio"`
	P     float64 `json:"p"` // Mann-Whitney
	// Verdict is "better", "worse", "no difference seen" or "too few values".
	Verdict string `json:"verdict"`
}
