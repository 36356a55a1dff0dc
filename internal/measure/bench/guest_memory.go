package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/cpu"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
)

// memoryMetric is a metric and the operations to measure it. The last one is
// measured; those before it prepare the memory, or warm up.
type memoryMetric struct {
	Metric
	ops   []access
	value func(measured) float64
	quick bool // measured in a quick run, if the scenario is
}

// scattered is a first write to all pages in a pseudo-random order. The kernel's
// allocator returns pages in ascending runs to one subject and in descending ones
// to the next, depending on what was freed before, and caches and TLBs behave
// differently with the two. A random order is equally bad for all subjects.
func scattered(size uint64) []access {
	return []access{{kind: payload.BenchScatter, size: size, stride: memory.PageSize}}
}

// untouched is no preparation of the memory.
func untouched(uint64) []access { return nil }

// memoryScenario completes the scenario sc. Its metrics are measured one after the
// other in one guest, or one process, with size bytes of memory, after the
// operations before.
func memoryScenario(sc Scenario, cpus int, size uint64, before func(size uint64) []access, metrics []memoryMetric) Scenario {
	for _, m := range metrics {
		sc.Metrics = append(sc.Metrics, m.Metric)
	}
	sc.Subjects = func(e *Env, working []Subject) []Subject {
		if e.Quick {
			working = unpaged(working)
		}
		return e.withBaseline(working, memory.Memfd)
	}
	sc.Sample = func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
		if e.Host.CPUs < cpus {
			return nil, fmt.Errorf("%w: it needs %d CPUs, and this host has %d", ErrCannot, cpus, e.Host.CPUs)
		}
		p := accesses{cpus: cpus, size: size, ops: before(size)}
		last := make(map[int]int) // by metric, the index of the result that counts
		for i, m := range metrics {
			if op := m.ops[len(m.ops)-1]; op.kind.AVX() && !cpu.X86.HasAVX2 || e.Quick && !sc.Slow && !m.quick {
				continue
			}
			p.ops = append(p.ops, m.ops...)
			last[i] = p.results() - 1
		}
		results, err := p.run(ctx, e, s)
		if err != nil {
			return nil, err
		}
		values := make([]float64, len(metrics))
		for i, m := range metrics {
			values[i] = math.NaN()
			if n, ok := last[i]; ok {
				values[i] = m.value(results[n])
			}
		}
		return values, nil
	}
	return sc
}

// unpaged leaves out subjects with a window, whose guests would mostly fault. Other
// scenarios measure the cost of a fault.
func unpaged(working []Subject) []Subject {
	return slices.DeleteFunc(slices.Clone(working), func(s Subject) bool { return s.Attach == attach.ViaWindow })
}

// run runs the program on a subject.
func (p accesses) run(ctx context.Context, e *Env, s Subject) ([]measured, error) {
	if err := enough(s.Backend, p.size); err != nil {
		return nil, err
	}
	if s.Peer == C {
		return p.inC(ctx, e)
	}
	return p.inGuest(ctx, s)
}

// enough returns an error that wraps ErrCannot if the host doesn't have size bytes
// available for a backend. Some backends don't check that themselves, and the OOM
// killer would kill a process.
func enough(b memory.Backend, size uint64) error {
	if b == memory.Hugetlb || b == memory.Reserved {
		return nil // the memory was reserved before
	}
	info, err := memory.ReadMeminfo()
	if err != nil {
		return err
	}
	if have := info["MemAvailable"]; have < size+size/4 {
		return fmt.Errorf("%w: it needs %d MiB of memory, and this host has %d MiB available", ErrCannot, size>>20, have>>20)
	}
	return nil
}

// workingSet is the memory in bytes that scenarios use which don't vary its size.
// It is more than caches have.
const workingSet = 64 << 20

// bandwidthScenarios measure sequential accesses.
func bandwidthScenarios() []Scenario {
	const about = "bytes a second in sequence over 64 MiB (copies: from one half to the other), by instructions of 8, 16 (SSE2) and 32 (AVX2) bytes, " +
		"by rep stosb and movsb, and by stores past the caches (nt); c is the same loops in C (quick: 16 bytes, no windows)"
	return []Scenario{
		memoryScenario(Scenario{Name: "bandwidth", About: about, Native: true}, 1, workingSet, scattered, streams()),
		memoryScenario(Scenario{Name: "bandwidth-2", About: about + "; two vCPUs, each with half of the memory", Native: true, Slow: true}, 2, workingSet, scattered, streams()),
	}
}

// streamTime is the least time for which each is measured, in whole passes over the
// working set.
const streamTime = 10 * time.Millisecond

func streams() (metrics []memoryMetric) {
	add := func(size uint64, before []access, kinds ...payload.BenchKind) {
		for _, k := range kinds {
			metrics = append(metrics, memoryMetric{
				Metric: Metric{Name: string(k), Unit: "B/s", More: true},
				ops:    append(before, access{kind: k, size: size, least: streamTime}),
				value:  measured.perSecond,
				quick:  strings.HasSuffix(string(k), "-16"),
			})
		}
	}
	fill := []access{{kind: payload.BenchFill, size: workingSet}}
	add(workingSet, fill, "read-8", "read-16", "read-32")
	add(workingSet/2, nil, "copy-8", "copy-16", "copy-32", "copy-rep", "copy-nt")
	add(workingSet, nil, "write-8", "write-16", "write-32", "write-rep", "write-nt")
	return metrics
}

// randomScenarios measure independent accesses at random.
func randomScenarios() []Scenario {
	var metrics []memoryMetric
	before := []access{{kind: payload.BenchFill, size: workingSet}}
	for _, k := range []payload.BenchKind{"random-read", "random-write"} {
		metrics = append(metrics, memoryMetric{
			Metric: Metric{Name: string(k)[len("random-"):], Unit: "ns/op"},
			ops:    append(before, access{kind: k, size: workingSet, least: streamTime}),
			value:  func(m measured) float64 { return m.nanoseconds(1) },
		})
		before = nil
	}
	return []Scenario{memoryScenario(Scenario{
		Name:   "random",
		About:  "the time of an 8-byte read and write at random in 64 MiB, many in flight at once; c is the same loops in C",
		Native: true, Slow: true,
	}, 1, workingSet, scattered, metrics)}
}
