package bench

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"

	"offmap/memory"
	"offmap/memory/attach"
)

// Confidence is the least confidence of an interval from MinRounds values or more.
const Confidence = 0.95

// MinRounds is the least number of values for an interval that has the median with
// Confidence. The range of n values misses the median with probability 2^(1-n).
const MinRounds = 6

// The verdicts of a comparison.
const (
	Better       = "better"
	Worse        = "worse"
	NoDifference = "no difference seen"
	TooFew       = "too few values"
)

// summarise sets the median of r's values and its interval. With fewer than
// MinRounds values the interval is their range, with its lower confidence.
func (r *Result) summarise() {
	s := benchmath.AssumeNothing.Summary(sample(r.Values), Confidence)
	r.Median, r.Low, r.High, r.Confidence = s.Center, s.Lo, s.Hi, s.Confidence
	if n := len(r.Values); n < MinRounds {
		r.Low, r.High = slices.Min(r.Values), slices.Max(r.Values)
		r.Confidence = 1 - math.Pow(2, float64(1-n))
	}
}

// sample returns a copy of values as a sample, because benchmath sorts it.
func sample(values []float64) *benchmath.Sample {
	return benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
}

// Compare compares r with base. A difference counts if it is statistically
// significant and at least as wide as either interval. A smaller one may well not
// be there in the next run.
func Compare(r, base *Result) *Comparison {
	c := benchmath.AssumeNothing.Compare(sample(r.Values), sample(base.Values))
	d := &Comparison{Subject: base.Subject.String(), P: c.P, Verdict: NoDifference}
	if ratio := r.Median / base.Median; !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
		d.Ratio = ratio
	}
	if min(r.Confidence, base.Confidence) < Confidence {
		d.Verdict = TooFew
		return d
	}
	diff := r.Median - base.Median
	if c.P >= c.Alpha || math.Abs(diff) < max(r.High-r.Low, base.High-base.Low) {
		return d
	}
	d.Verdict = Worse
	if (diff > 0) == r.More {
		d.Verdict = Better
	}
	return d
}

// measured reports whether there are values to compare.
func (r *Result) measured() bool { return r.Status == Measured || r.Status == Partial }

// controls are the subjects in ordinary memory with which others are compared. The
// first one that was measured is used.
var controls = []Subject{
	{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}},
	{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}},
}

// rank returns the place of a subject in lists: the controls come first, and plain
// C last.
func (s Subject) rank() int {
	if i := slices.Index(controls, s); i >= 0 {
		return i
	}
	if s.Peer == C {
		return len(controls) + 1
	}
	return len(controls)
}

// compareAll sets the comparisons of each result but those of plain C: with a
// control, and with plain C.
func compareAll(results []Result) {
	find := func(like *Result, s Subject) *Result {
		i := slices.IndexFunc(results, func(r Result) bool {
			return r.Name == like.Name && r.Accel == like.Accel && r.measured() && r.Subject == s
		})
		if i < 0 {
			return nil
		}
		return &results[i]
	}
	first := func(like *Result, subjects ...Subject) *Result {
		for _, s := range subjects {
			if r := find(like, s); r != nil {
				return r
			}
		}
		return nil
	}
	for i := range results {
		r := &results[i]
		if !r.measured() || r.Peer == C {
			continue
		}
		base := first(r, controls...)
		if base != nil && base != r {
			r.Against = Compare(r, base)
		}
		if baseline := first(r, Subject{Pair: attach.Pair{Backend: r.Backend}, Peer: C}, Subject{Peer: C}); baseline != nil {
			r.AgainstBaseline = Compare(r, baseline)
		}
	}
}
