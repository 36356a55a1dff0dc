package bench

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strconv"
	"time"

	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
	"offmap/memory/attach"
)

// populateScenarios measure the cost of guest RAM without a guest.
func populateScenarios() []Scenario {
	return []Scenario{{
		Name:  "create",
		About: "creating and closing a VM with 64 MiB of RAM (quick: 32) of which no page is written, the trials of its attach included; c does the same without trials",
		Metrics: []Metric{
			{Name: "make", Unit: "ns/op"}, {Name: "release", Unit: "ns/op"},
		},
		Subjects: func(e *Env, working []Subject) []Subject {
			return e.withBaseline(working, memory.Anon, memory.Memfd)
		},
		Sample: sampleCreate,
	}, {
		Name: "populate",
		About: "the first write to each 4 KiB of 64 MiB (quick: 32) of a backend's memory, from the host: by one thread, by one for each CPU, " +
			"by one through the bridge's mapping, as KVM does it; and freeing the memory",
		Metrics: []Metric{
			{Name: "one-thread", Unit: "ns/page"}, {Name: "all-threads", Unit: "ns/page"},
			{Name: "view", Unit: "ns/page"}, {Name: "release", Unit: "ns/page"},
		},
		Subjects: func(e *Env, working []Subject) []Subject {
			return e.withBaseline(oneEach(working), memory.Anon, memory.Memfd, memory.Secret)
		},
		Sample: samplePopulate,
	}}
}

// hostSize returns the size of the memory in bytes.
func hostSize(e *Env) uint64 { return e.pick(memory.MinSize, 64<<20) }

func sampleCreate(ctx context.Context, e *Env, s Subject) ([]float64, error) {
	if s.Peer == C {
		return baseline.Run(ctx, e.Baseline, "create", string(s.Backend), strconv.FormatUint(hostSize(e), 10))
	}
	start := time.Now()
	m, err := newVM(s, hostSize(e))
	if err != nil {
		return nil, err
	}
	made := time.Now()
	err = m.Close()
	return []float64{nanoseconds(made.Sub(start)), nanoseconds(time.Since(made))}, err
}

func nanoseconds(d time.Duration) float64 { return float64(d) }

func samplePopulate(ctx context.Context, e *Env, s Subject) ([]float64, error) {
	if s.Peer == C {
		return baselinePopulate(ctx, e, s)
	}
	one, release, err := populate(s, hostSize(e), 1, false)
	if err != nil {
		return nil, err
	}
	all, view := math.NaN(), math.NaN()
	if n := runtime.NumCPU(); n > 1 {
		if all, _, err = populate(s, hostSize(e), n, false); err != nil {
			return nil, err
		}
	}
	if s.Attach == attach.ViaBridge {
		view, _, err = populate(s, hostSize(e), 1, true)
	}
	return []float64{one, all, view, release}, err
}

// populate writes to each page of a VM's RAM, with view through KVM's mapping, and
// frees it. It returns the times of a page in nanoseconds.
func populate(s Subject, size uint64, threads int, view bool) (write, release float64, err error) {
	m, err := newVM(s, size)
	if err != nil {
		return 0, 0, err
	}
	at := m.RAM.Pointer()
	if view {
		at = m.Slots()[0].Memory // there is only one slot: no RAM above the PCI hole
	}
	start := time.Now()
	err = touchPages(at, size, threads)
	took := time.Since(start)
	// Nothing else has a reference to the memory, so this times its freeing.
	err = errors.Join(err, m.Detach())
	start = time.Now()
	err = errors.Join(err, m.Close())
	pages := float64(size / memory.PageSize)
	return nanoseconds(took) / pages, nanoseconds(time.Since(start)) / pages, err
}

func baselinePopulate(ctx context.Context, e *Env, s Subject) ([]float64, error) {
	size := strconv.FormatUint(hostSize(e), 10)
	one, err := baseline.Run(ctx, e.Baseline, "touch", string(s.Backend), size, "1")
	if err != nil {
		return nil, err
	}
	all := math.NaN()
	if n := runtime.NumCPU(); n > 1 {
		v, err := baseline.Run(ctx, e.Baseline, "touch", string(s.Backend), size, strconv.Itoa(n))
		if err != nil {
			return nil, err
		}
		all = v[1]
	}
	return []float64{one[1], all, math.NaN(), one[2]}, nil
}
