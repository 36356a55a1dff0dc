package bench

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
)

// windowFault measures how fast faults are answered.
func windowFault() Scenario {
	return Scenario{
		Name: "window-fault",
		About: "a guest uses a word of each page of 64 MiB (quick: 16) behind a window of an eighth, in random order or in sequence: the time from a fault's event to the wake-up, " +
			"median and 99th percentile; the guest's time for a page; faults answered in a second. c makes the same system calls for one page at a time, without a guest or a policy",
		Metrics: slices.Concat(faultMetrics("scattered"), faultMetrics("sequential")),
		Native:  true,
		Subjects: func(e *Env, working []Subject) []Subject {
			s := behindWindow(e, working)
			if len(s) == 0 {
				return nil
			}
			return e.withBaseline(s, memory.Secret)
		},
		Sample: func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
			set, rounds := e.pick(16<<20, 64<<20), e.pick(1, 4)
			sample := sampleFaults
			if s.Peer == C {
				sample = func(ctx context.Context, _ Subject, set, rounds, mode uint64) ([]float64, error) {
					return baselineFaults(ctx, e.Baseline, set, rounds, mode)
				}
			}
			scattered, err := sample(ctx, s, set, rounds, churnRandom)
			if err != nil {
				return nil, err
			}
			sequential, err := sample(ctx, s, set, rounds, churnSequential)
			return slices.Concat(scattered, sequential), err
		},
	}
}

func faultMetrics(order string) []Metric {
	return []Metric{
		{Name: order + "-p50", Unit: "ns/fault"}, {Name: order + "-p99", Unit: "ns/fault"},
		{Name: order + "-page", Unit: "ns/page"}, {Name: order + "-rate", Unit: "faults/s", More: true},
	}
}

// windowShare is the ratio of the guest's working set to its window.
const windowShare = 8

func sampleFaults(ctx context.Context, s Subject, set, rounds, mode uint64) ([]float64, error) {
	g := churn(set/windowShare, set, rounds, mode)
	g.native = true
	r, perPage, touched, err := runChurn(ctx, s, g)
	if err != nil {
		return nil, err
	}
	if r.Faults == nil || r.Faults.Count == 0 {
		return nil, errors.New("a guest larger than its window ran without a fault")
	}
	// All rounds have about the same number of faults, the warm-up included.
	rate := float64(r.Faults.Count) / float64(touched) / perPage * 1e9
	return []float64{float64(r.Faults.P50), float64(r.Faults.P99), perPage, rate}, nil
}

// baselineSteps are the distances in pages between the accesses of the plain C
// baseline, by churn's mode.
var baselineSteps = [...]uint64{churnSequential: 1, churnRandom: 7919}

func baselineFaults(ctx context.Context, program string, set, rounds, mode uint64) ([]float64, error) {
	pages := set / memory.PageSize
	args := []string{"pager"}
	for _, n := range []uint64{pages, pages / windowShare, pages * rounds, baselineSteps[mode]} {
		args = append(args, strconv.FormatUint(n, 10))
	}
	v, err := baseline.Run(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	if len(v) != 3 {
		return nil, errors.New("the C baseline's pager didn't print 3 numbers")
	}
	return []float64{v[1], v[2], v[0], 1e9 / v[0]}, nil // each access is a fault
}
