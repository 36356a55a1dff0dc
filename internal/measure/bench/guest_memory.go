package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
)

// figure is a metric and the operations that it takes. The last of them is the
// one that counts; those before it prepare its memory, or warm it up.
type figure struct {
	Metric
	ops   []access
	value func(measured) float64
	quick bool // of a scenario that isn't slow: part of a quick run
}

// scattered touches all memory for the first time, page by page in a
// pseudo-random order. A kernel hands pages out in an order that comes from
// what was freed before, in runs that go up for one subject and down for the
// next, and caches and TLBs tell the two apart: this is as bad for all of them.
func scattered(size uint64) []access {
	return []access{{kind: payload.BenchScatter, size: size, stride: memory.PageSize}}
}

// untouched leaves fresh memory as it is.
func untouched(uint64) []access { return nil }

// memoryScenario makes a scenario of figures, measured one after the other in
// one guest with size bytes to measure, or in one process, after what before
// does to them. What its name, its text and whom it is for are, sc says.
func memoryScenario(sc Scenario, cpus int, size uint64, before func(size uint64) []access, figures []figure) Scenario {
	for _, f := range figures {
		sc.Metrics = append(sc.Metrics, f.Metric)
	}
	sc.Subjects = func(e *Env, working []Subject) []Subject {
		if e.Quick {
			working = unpaged(working)
		}
		return e.withBaseline(working, memory.Memfd)
	}
	sc.Sample = func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
		if e.Host.CPUs < cpus {
			return nil, fmt.Errorf("%w: it takes %d CPUs, and this host has %d", ErrCannot, cpus, e.Host.CPUs)
		}
		p := accesses{cpus: cpus, size: size, ops: before(size)}
		last := make(map[int]int) // of a figure's operations, among the results
		for i, f := range figures {
			if op := f.ops[len(f.ops)-1]; op.kind.AVX() && !cpuid.CPU.Supports(cpuid.AVX2) || e.Quick && !sc.Slow && !f.quick {
				continue
			}
			p.ops = append(p.ops, f.ops...)
			last[i] = p.results() - 1
		}
		results, err := p.run(ctx, e, s)
		if err != nil {
			return nil, err
		}
		values := make([]float64, len(figures))
		for i, f := range figures {
			values[i] = math.NaN()
			if n, ok := last[i]; ok {
				values[i] = f.value(results[n])
			}
		}
		return values, nil
	}
	return sc
}

// unpaged leaves out guests behind a window, which fault their way through
// memory for long; scenarios of their own say what a fault costs.
func unpaged(working []Subject) []Subject {
	return slices.DeleteFunc(slices.Clone(working), func(s Subject) bool { return s.Attach == attach.ViaWindow })
}

// run runs the program as a subject does.
func (p accesses) run(ctx context.Context, e *Env, s Subject) ([]measured, error) {
	if err := enough(s.Backend, p.size); err != nil {
		return nil, err
	}
	if s.Peer == C {
		return p.inC(ctx, e)
	}
	return p.inGuest(ctx, s)
}

// enough wraps ErrCannot where the host hasn't got size bytes to spare for a
// backend. Not all see to that themselves, and a host that runs out kills
// somebody.
func enough(b memory.Backend, size uint64) error {
	if b == memory.Hugetlb || b == memory.Reserved {
		return nil // memory that was set aside before
	}
	info, err := memory.ReadMeminfo()
	if err != nil {
		return err
	}
	if have := info["MemAvailable"]; have < size+size/4 {
		return fmt.Errorf("%w: it takes %d MiB of memory, and this host has %d MiB available", ErrCannot, size>>20, have>>20)
	}
	return nil
}

// workingSet is how much memory the scenarios go over that aren't about its
// size, in bytes: more than caches hold.
const workingSet = 64 << 20

// bandwidthScenarios are accesses in sequence.
func bandwidthScenarios() []Scenario {
	const about = "bytes a second in sequence over 64 MiB (copies: from one half to the other), by instructions of 8, 16 (SSE2) and 32 (AVX2) bytes, " +
		"by rep stosb and movsb, and by stores past the caches (nt); c is the same loops in C (quick: 16 bytes, no windows)"
	return []Scenario{
		memoryScenario(Scenario{Name: "bandwidth", About: about, Native: true}, 1, workingSet, scattered, streams()),
		memoryScenario(Scenario{Name: "bandwidth-2", About: about + "; two vCPUs, each with half of the memory", Native: true, Slow: true}, 2, workingSet, scattered, streams()),
	}
}

// streamTime is how long each is measured: a pass over the working set, or
// more.
const streamTime = 10 * time.Millisecond

func streams() (figures []figure) {
	add := func(size uint64, before []access, kinds ...payload.BenchKind) {
		for _, k := range kinds {
			figures = append(figures, figure{
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
	return figures
}

// randomScenarios are accesses that don't wait for each other, anywhere.
func randomScenarios() []Scenario {
	var figures []figure
	before := []access{{kind: payload.BenchFill, size: workingSet}}
	for _, k := range []payload.BenchKind{"random-read", "random-write"} {
		figures = append(figures, figure{
			Metric: Metric{Name: string(k)[len("random-"):], Unit: "ns/op"},
			ops:    append(before, access{kind: k, size: workingSet, least: streamTime}),
			value:  func(m measured) float64 { return m.nanoseconds(1) },
		})
		before = nil
	}
	return []Scenario{memoryScenario(Scenario{
		Name:   "random",
		About:  "time of an 8-byte read and write anywhere in 64 MiB, many at a time; c is the same loops in C",
		Native: true, Slow: true,
	}, 1, workingSet, scattered, figures)}
}
