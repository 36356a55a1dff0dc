package bench

import (
	"context"
	"fmt"
	"math"
	"slices"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

// windowScenarios are what the window of secret+window costs (docs/window.md).
func windowScenarios() []Scenario {
	return []Scenario{windowFault(), windowSize(), windowCounts()}
}

// behindWindow keeps the pair that has a window.
func behindWindow(_ *Env, working []Subject) []Subject {
	return slices.DeleteFunc(slices.Clone(working), func(s Subject) bool { return s.Attach != attach.ViaWindow })
}

// Modes of payload churn.
const (
	churnSequential = 0
	churnRandom     = 1
)

// churnWarmUp is how many rounds payload churn makes before it measures.
const churnWarmUp = 2

// roomFor is RAM for a working set with room to spare: a window can have all of
// the set and not all of RAM.
func roomFor(set uint64) uint64 { return max(memory.MinSize, 2*set) }

// churn is a guest that touches a word of each page of its working set, of set
// bytes, behind a window of so many bytes.
func churn(window, set, rounds, mode uint64) guest {
	return stored(guest{
		payload: "churn", args: []uint64{set, rounds, mode, 1}, cpus: 1, size: roomFor(set),
		options: attach.Options{Window: window},
	}, set)
}

// stored is a guest that finds memory for a working set of so many bytes given
// by its backend already. A page's first use of secret memory costs more than a
// fault: without this, a window's first evictions would be measured with it.
func stored(g guest, set uint64) guest {
	const payloads = 1 << 20 // more than they have before the working set
	place := g.place
	g.load = func(ram memory.Guest, p payload.Payload, khz int) ([]boot.CPU, error) {
		for at := uint64(0); at < set+payloads; at += memory.PageSize {
			if _, err := ram.WriteAt([]byte{0}, int64(at)); err != nil {
				return nil, err
			}
		}
		return place(ram, p, khz)
	}
	return g
}

// runChurn runs it, and returns the nanoseconds that a page took and how many
// pages were touched in all, warm-up included.
func runChurn(ctx context.Context, s Subject, g guest) (r guestRun, perPage float64, touched uint64, err error) {
	if r, err = g.run(ctx, s); err != nil {
		return r, 0, 0, err
	}
	var rounds, pages, cycles uint64
	if err := scan(r.Said, payload.ChurnReport, &rounds, &pages, &cycles); err != nil {
		return r, 0, 0, err
	}
	if rounds != g.args[1] || pages != g.args[0]/memory.PageSize {
		return r, 0, 0, fmt.Errorf("payload churn said %.200q: that isn't what it was asked for", r.Said)
	}
	if err := r.possible(cycles); err != nil {
		return r, 0, 0, err
	}
	return r, r.nanoseconds(cycles) / float64(rounds*pages), (churnWarmUp + rounds) * pages, nil
}

// zipf is a guest that makes so many accesses to warm up and to measure, to
// some pages of its working set of set bytes far more often than to others.
func zipf(window, set, accesses uint64) guest {
	return stored(guest{
		payload: "zipf", args: []uint64{set, accesses, 0, accesses}, cpus: 1, size: roomFor(set),
		options: attach.Options{Window: window},
	}, set)
}

// runZipf runs it, and returns the nanoseconds of an access.
func runZipf(ctx context.Context, s Subject, g guest) (r guestRun, perAccess float64, err error) {
	if r, err = g.run(ctx, s); err != nil {
		return r, 0, err
	}
	var accesses, pages, cycles uint64
	if err := scan(r.Said, payload.ZipfReport, &accesses, &pages, &cycles); err != nil {
		return r, 0, err
	}
	if accesses != g.args[1] || pages != g.args[0]/memory.PageSize {
		return r, 0, fmt.Errorf("payload zipf said %.200q: that isn't what it was asked for", r.Said)
	}
	if err := r.possible(cycles); err != nil {
		return r, 0, err
	}
	return r, r.nanoseconds(cycles) / float64(accesses), nil
}

// windowCurve are the metrics of a line over windows of so many bytes.
func windowCurve(name, unit string, windows []uint64) (points []Metric) {
	for _, w := range windows {
		points = append(points, Metric{
			Name: name + "/" + sizeName(w), Unit: unit, Curve: "window", X: float64(w), XUnit: "B",
		})
	}
	return points
}

// without is n values of metrics that aren't measured.
func without(n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = math.NaN()
	}
	return values
}
