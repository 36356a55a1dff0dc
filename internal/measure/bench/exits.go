package bench

import (
	"context"
	"fmt"
	"strconv"

	"offmap/guest/payload"
	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
)

// exitScenarios measure a VM exit to the VMM and back.
func exitScenarios() []Scenario {
	return []Scenario{{
		Name: "exits",
		About: "a VM exit to the VMM and back with no device involved, by the guest's TSC: a write to a port, a read of one, and a read of an address without memory; " +
			"c is a loop around ioctl(KVM_RUN) in C with the same guest code, by the host's clock",
		Metrics: []Metric{
			{Name: "port-write", Unit: "ns/op"}, {Name: "port-read", Unit: "ns/op"}, {Name: "mmio-read", Unit: "ns/op"},
		},
		// An exit uses no guest RAM but the page of the instruction, so one
		// ordinary backend is enough.
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
	r, err := payloadGuest{payload: "exits", args: []uint64{count}, cpus: 1, size: memory.MinSize}.run(ctx, s)
	if err != nil {
		return nil, err
	}
	var n, writes, reads, loads uint64
	if err := scan(r.Said, payload.ExitsReport, &n, &writes, &reads, &loads); err != nil {
		return nil, err
	}
	if n != count {
		return nil, fmt.Errorf("payload exits said %.200q: not what it was asked for", r.Said)
	}
	if got := r.Exits["mmio"]; got < count {
		return nil, fmt.Errorf("payload exits read %d times from an address without memory, and KVM made %d exits for it", count, got)
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
