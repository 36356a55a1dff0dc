package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"offmap/guest/payload"
	"offmap/internal/bench/floor"
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
			return e.withFloor(only(working, memory.Memfd, memory.Secret), memory.Memfd)
		},
		Sample: func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
			count := e.pick(2000, 20000)
			if s.Peer == C {
				return floorExits(ctx, e, count)
			}
			return sampleExits(ctx, s, count)
		},
	}}
}

func sampleExits(ctx context.Context, s Subject, count uint64) ([]float64, error) {
	r, err := runPayload(ctx, s, "exits", 1, memory.MinSize, count)
	if err != nil {
		return nil, err
	}
	var n, writes, reads, loads uint64
	if _, err := fmt.Sscanf(r.Said, payload.ExitsReport, &n, &writes, &reads, &loads); err != nil || n != count {
		return nil, fmt.Errorf("payload exits said %q (%v)", r.Said, err)
	}
	if got := r.Exits["mmio"]; got < count {
		return nil, fmt.Errorf("payload exits read %d times where no memory is, and KVM left for it %d times", count, got)
	}
	if err := r.check(writes + reads + loads); err != nil {
		return nil, err
	}
	return []float64{r.nanoseconds(writes) / float64(n), r.nanoseconds(reads) / float64(n), r.nanoseconds(loads) / float64(n)}, nil
}

// check holds the cycles that a guest counted against the host's clock: a guest
// whose TSC runs at another rate than KVM says measures nothing. What the guest
// did before and after it counted, and its ending, take time of their own.
func (r guestRun) check(cycles uint64) error {
	counted := time.Duration(r.nanoseconds(cycles))
	if counted > r.Took+r.Took/50 || counted < r.Took/2-50*time.Millisecond {
		return fmt.Errorf("the guest counted %v by its TSC at %d kHz where the host's clock saw %v", counted, r.TSCKHz, r.Took)
	}
	return nil
}

func floorExits(ctx context.Context, e *Env, count uint64) ([]float64, error) {
	var values []float64
	for _, kind := range []string{"out", "in", "mmio"} {
		v, err := floor.Run(ctx, e.Floor, "exits", kind, strconv.FormatUint(count, 10))
		if err != nil {
			return nil, err
		}
		values = append(values, v[0])
	}
	return values, nil
}
