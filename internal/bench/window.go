package bench

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
)

// windowScenarios are what the window of secret+window costs (docs/window.md).
func windowScenarios() []Scenario {
	return []Scenario{windowFault(), windowSize(), windowCounts(), windowPolicy()}
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
	return guest{
		payload: "churn", args: []uint64{set, rounds, mode, 1}, cpus: 1, size: roomFor(set),
		options: attach.Options{Window: window}, prepare: store(set),
	}
}

// store has the backend give memory for a working set of so many bytes. A page's
// first use of secret memory costs more than a fault: without this, a window's
// first evictions would be measured with it.
func store(set uint64) func(ram memory.Guest) error {
	const payload = 1 << 20 // more than it has before the working set
	return func(ram memory.Guest) error {
		for at := uint64(0); at < set+payload; at += memory.PageSize {
			if _, err := ram.WriteAt([]byte{0}, int64(at)); err != nil {
				return err
			}
		}
		return nil
	}
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
	return guest{
		payload: "zipf", args: []uint64{set, accesses, 0, accesses}, cpus: 1, size: roomFor(set),
		options: attach.Options{Window: window}, prepare: store(set),
	}
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

// possible holds the cycles that a guest counted against the host's clock, as far
// as can be: a guest behind a window goes on for long after what it measures.
func (r guestRun) possible(cycles uint64) error {
	if counted := time.Duration(r.nanoseconds(cycles)); cycles == 0 || counted > r.Took+r.Took/50 {
		return fmt.Errorf("the guest counted %v by its TSC at %d kHz where the host's clock saw %v", counted, r.TSCKHz, r.Took)
	}
	return nil
}

// scan reads the numbers in what a guest said, which must be the format with
// numbers in it and nothing else.
func scan(said, format string, numbers ...*uint64) error {
	into, values := make([]any, len(numbers)), make([]any, len(numbers))
	for i, n := range numbers {
		into[i] = n
	}
	_, err := fmt.Sscanf(said, format, into...)
	for i, n := range numbers {
		values[i] = *n
	}
	if err != nil || fmt.Sprintf(format, values...) != said {
		return fmt.Errorf("the guest said %.200q and not its report (%v)", said, err)
	}
	return nil
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
