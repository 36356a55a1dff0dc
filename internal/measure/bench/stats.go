package bench

import (
	"math"
	"slices"

	"golang.org/x/perf/benchmath"

	"offmap/memory"
	"offmap/memory/attach"
)

// Confidence is that of the intervals, at least, where there are MinRounds
// values to make one of.
const Confidence = 0.95

// MinRounds is how many values it takes for an interval that holds the median
// with Confidence: the whole range of n values misses it with 2^(1-n).
const MinRounds = 6

// Verdicts of a comparison.
const (
	Better       = "better"
	Worse        = "worse"
	NoDifference = "no difference seen"
	TooFew       = "too few values" // to see any difference
)

// summarise fills in the median of r's values and its interval. Of fewer than
// MinRounds values it is their range, with the confidence that this has.
func (r *Result) summarise() {
	s := benchmath.AssumeNothing.Summary(sample(r.Values), Confidence)
	r.Median, r.Low, r.High, r.Confidence = s.Center, s.Lo, s.Hi, s.Confidence
	if n := len(r.Values); n < MinRounds {
		r.Low, r.High = slices.Min(r.Values), slices.Max(r.Values)
		r.Confidence = 1 - math.Pow(2, float64(1-n))
	}
}

// sample is for benchmath, which sorts what it is given.
func sample(values []float64) *benchmath.Sample {
	return benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
}

// compare sets r beside base. A difference counts if chance alone would hardly
// make it and if it is at least as wide as either interval: with less, the next
// run may well show another.
func compare(r, base *Result) *Comparison {
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

// baselines are what guest memory is compared with: the first that there is.
var baselines = []Subject{
	{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}},
	{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}},
}

// rank orders subjects for people: what others are compared with comes first,
// and the baselines come last.
func (s Subject) rank() int {
	if i := slices.Index(baselines, s); i >= 0 {
		return i
	}
	if s.Peer == C {
		return len(baselines) + 1
	}
	return len(baselines)
}

// compareAll fills in the comparisons: of every subject with ordinary memory,
// memfd or else anon, and of all but the baselines with their baseline.
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
		base := first(r, baselines...)
		if base != nil && base != r {
			r.Against = compare(r, base)
		}
		if baseline := first(r, Subject{Pair: attach.Pair{Backend: r.Backend}, Peer: C}, Subject{Peer: C}); baseline != nil {
			r.AgainstBaseline = compare(r, baseline)
		}
	}
}
