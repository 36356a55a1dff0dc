package bench

import (
	"context"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/vmm/boot"
)

// uncachedBuffer is the size in bytes of the memory that the guest maps uncached,
// and of the memory to compare with. One page of its page tables maps each.
const uncachedBuffer = 2 << 20

// uncachedScenarios measure accesses to memory that the guest maps uncached.
func uncachedScenarios() []Scenario {
	kinds := []struct {
		name string
		kind payload.BenchKind
		unit float64 // the operation's units for each access
	}{
		{"read", "read-8", 8}, {"random-read", "random-read", 1},
		{"write", "write-8", 8}, {"random-write", "random-write", 1},
	}
	sc := Scenario{
		Name: "uncached",
		Slow: true,
		About: "an 8-byte access in sequence and at random to 2 MiB that the guest's own page tables map uncached (index 3 of the PAT), and to 2 MiB that they don't; " +
			"a ratio of 1 means that KVM ignores the guest's memory types, which it may",
		Native: true,
		// The backend doesn't matter for the guest's page tables: one ordinary
		// backend is enough.
		Subjects: func(_ *Env, working []Subject) []Subject { return only(working, memory.Memfd, memory.Secret) },
	}
	g := measuredGuest{
		accesses: accesses{cpus: 1, size: 2 * uncachedBuffer},
		ring:     3,
		change: func(ram memory.Guest, cpu boot.CPU) error {
			return boot.MapUncached(ram, cpu, memoryAt+uncachedBuffer)
		},
	}
	for at := uint64(0); at < g.size; at += uncachedBuffer {
		g.ops = append(g.ops, access{kind: payload.BenchFill, at: at, size: uncachedBuffer})
	}
	for _, k := range kinds {
		sc.Metrics = append(sc.Metrics,
			Metric{Name: k.name + "-cached", Unit: "ns/op"},
			Metric{Name: k.name + "-uncached", Unit: "ns/op"},
			Metric{Name: k.name + "-ratio", Unit: "ratio"})
		for at := uint64(0); at < g.size; at += uncachedBuffer {
			g.ops = append(g.ops, access{kind: k.kind, at: at, size: uncachedBuffer, least: streamTime})
		}
	}
	sc.Sample = func(ctx context.Context, _ *Env, s Subject) ([]float64, error) {
		results, err := g.run(ctx, s)
		if err != nil {
			return nil, err
		}
		var values []float64
		for i, k := range kinds {
			cached, uncached := results[2*i].nanoseconds(k.unit), results[2*i+1].nanoseconds(k.unit)
			values = append(values, cached, uncached, uncached/cached)
		}
		return values, nil
	}
	return []Scenario{sc}
}
