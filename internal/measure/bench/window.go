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

// windowScenarios returns the scenarios of what secret+window costs
// (docs/window.md).
func windowScenarios() []Scenario {
	return []Scenario{windowFault(), windowSize(), windowCounts()}
}

// behindWindow returns the subjects that have a window.
func behindWindow(_ *Env, working []Subject) []Subject {
	return slices.DeleteFunc(slices.Clone(working), func(s Subject) bool { return s.Attach != attach.ViaWindow })
}

// The modes of payload churn.
const (
	churnSequential = 0
	churnRandom     = 1
)

// churnWarmUp is the number of rounds that payload churn makes before it measures.
const churnWarmUp = 2

// roomFor returns the size of RAM for a working set of set bytes. It is larger, so
// that a window can have all of the set and not all of RAM.
func roomFor(set uint64) uint64 { return max(memory.MinSize, 2*set) }

// churn returns a guest that uses a word of each page of its working set, of set
// bytes, behind a window of window bytes.
func churn(window, set, rounds, mode uint64) payloadGuest {
	return stored(payloadGuest{
		payload: "churn", args: []uint64{set, rounds, mode, 1}, cpus: 1, size: roomFor(set),
		options: attach.Options{Window: window},
	}, set)
}

// stored returns g with memory that the backend has allocated before it runs, for
// a working set of set bytes. The allocation of a secret page costs more than a
// fault, and would otherwise be measured with a window's first evictions.
func stored(g payloadGuest, set uint64) payloadGuest {
	const payloads = 1 << 20 // more than they have before the working set
	place := g.place
	g.load = func(ram memory.Guest, p payload.Payload, khz int) ([]boot.CPU, error) {
		for at := memory.GPA(0); at < memory.GPA(set+payloads); at += memory.PageSize {
			if _, err := ram.WriteAt([]byte{0}, at); err != nil {
				return nil, err
			}
		}
		return place(ram, p, khz)
	}
	return g
}

// runChurn runs the guest g of churn. It returns the time for a page in
// nanoseconds, and the number of pages used, warm-up included.
func runChurn(ctx context.Context, s Subject, g payloadGuest) (r guestRun, perPage float64, touched uint64, err error) {
	if r, err = g.run(ctx, s); err != nil {
		return r, 0, 0, err
	}
	var rounds, pages, cycles uint64
	if err := scan(r.Said, payload.ChurnReport, &rounds, &pages, &cycles); err != nil {
		return r, 0, 0, err
	}
	if rounds != g.args[1] || pages != g.args[0]/memory.PageSize {
		return r, 0, 0, fmt.Errorf("payload churn said %.200q: not what it was asked for", r.Said)
	}
	if err := r.possible(cycles); err != nil {
		return r, 0, 0, err
	}
	return r, r.nanoseconds(cycles) / float64(rounds*pages), (churnWarmUp + rounds) * pages, nil
}

// zipf returns a guest that accesses the pages of its working set of set bytes by
// Zipf's law, accesses times to warm up and as often to measure.
func zipf(window, set, accesses uint64) payloadGuest {
	return stored(payloadGuest{
		payload: "zipf", args: []uint64{set, accesses, 0, accesses}, cpus: 1, size: roomFor(set),
		options: attach.Options{Window: window},
	}, set)
}

// runZipf runs the guest g of zipf. It returns the time of an access in
// nanoseconds.
func runZipf(ctx context.Context, s Subject, g payloadGuest) (r guestRun, perAccess float64, err error) {
	if r, err = g.run(ctx, s); err != nil {
		return r, 0, err
	}
	var accesses, pages, cycles uint64
	if err := scan(r.Said, payload.ZipfReport, &accesses, &pages, &cycles); err != nil {
		return r, 0, err
	}
	if accesses != g.args[1] || pages != g.args[0]/memory.PageSize {
		return r, 0, fmt.Errorf("payload zipf said %.200q: not what it was asked for", r.Said)
	}
	if err := r.possible(cycles); err != nil {
		return r, 0, err
	}
	return r, r.nanoseconds(cycles) / float64(accesses), nil
}

// windowCurve returns the metrics of a curve over window sizes in bytes.
func windowCurve(name, unit string, windows []uint64) (points []Metric) {
	for _, w := range windows {
		points = append(points, Metric{
			Name: name + "/" + sizeName(w), Unit: unit, Curve: "window", X: float64(w), XUnit: "B",
		})
	}
	return points
}

// without returns n values of metrics that weren't measured.
func without(n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = math.NaN()
	}
	return values
}
