package bench

import (
	"context"
	"fmt"
	"strconv"

	"offmap/guest/payload"
	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
)

// exitScenarios is what it costs a guest to leave for the VMM and come back.
func exitScenarios() []Scenario {
	return []Scenario{{
		Name: "exits",
		About: "a VM exit to the VMM and back that no device answers, by the guest's TSC: a port's write and read, a read of an address without memory; " +
			"c is a loop around ioctl(KVM_RUN) in C, with the same guest code and by the host's clock",
		Metrics: []Metric{
			{Name: "port-write", Unit: "ns/op"}, {Name: "port-read", Unit: "ns/op"}, {Name: "mmio-read", Unit: "ns/op"},
		},
		// An exit doesn't touch guest RAM but for the instruction's own
		// page: one ordinary backend stands for them all.
		Subjects: func(e *Env, working []Subject) []Subject {
			return e.withBaseline(only(working, memory.Memfd, memory.Secret), memory.Memfd)
		},
		Sample: func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
			count := e.pick(2000, 20000)
			if s.Peer == C {
				return baselineExits(ctx, e, count)
			}
			return sampleExits(ctx, s, count)
		},
	}}
}

func sampleExits(ctx context.Context, s Subject, count uint64) ([]float64, error) {
	r, err := guest{payload: "exits", args: []uint64{count}, cpus: 1, size: memory.MinSize}.run(ctx, s)
	if err != nil {
		return nil, err
	}
	var n, writes, reads, loads uint64
	if err := scan(r.Said, payload.ExitsReport, &n, &writes, &reads, &loads); err != nil {
		return nil, err
	}
	if n != count {
		return nil, fmt.Errorf("payload exits said %.200q: that isn't what it was asked for", r.Said)
	}
	if got := r.Exits["mmio"]; got < count {
		return nil, fmt.Errorf("payload exits read %d times where no memory is, and KVM left for it %d times", count, got)
	}
	if err := r.likely(writes + reads + loads); err != nil {
		return nil, err
	}
	return []float64{r.nanoseconds(writes) / float64(n), r.nanoseconds(reads) / float64(n), r.nanoseconds(loads) / float64(n)}, nil
}

func baselineExits(ctx context.Context, e *Env, count uint64) ([]float64, error) {
	var values []float64
	for _, kind := range []string{"out", "in", "mmio"} {
		v, err := baseline.Run(ctx, e.Baseline, "exits", kind, strconv.FormatUint(count, 10))
		if err != nil {
			return nil, err
		}
		values = append(values, v[0])
	}
	return values, nil
}
