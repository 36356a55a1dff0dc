package policy

import (
	"math"
	"math/rand/v2"
	"sync"
)

// The window and the RAM of the synthetic traces, in pages.
const (
	simWindow = 2048
	simRAM    = 8 * simWindow
)

// workload is a trace and the sizes of the windows to replay it in, in pages.
type workload struct {
	name    string
	windows []int
	trace   func() *trace
}

var workloads = []workload{
	{"sweep", []int{simWindow}, sync.OnceValue(sweep)},
	{"zipf", []int{simWindow}, sync.OnceValue(func() *trace { return zipf(0.99) })},
	{"loop", []int{simWindow}, sync.OnceValue(func() *trace { return loop(false) })},
	{"loop-shuffled", []int{simWindow}, sync.OnceValue(func() *trace { return loop(true) })},
	{"random", []int{simWindow}, sync.OnceValue(random)},
	{"scan+hot", []int{simWindow}, sync.OnceValue(scanAndHot)},
	{"streams", []int{simWindow}, sync.OnceValue(streams)},
	{"phases", []int{simWindow}, sync.OnceValue(phases)},
	{"boot", []int{2048, 4096, 8192, 12288, 16384, 24576}, bootTrace},
}

func newTrace() *trace { return &trace{pages: simRAM} }

func (t *trace) add(page uint32) { t.refs = append(t.refs, page) }

func seeded() *rand.Rand { return rand.New(rand.NewPCG(7, 11)) }

// sweep uses all of RAM in order, several times.
func sweep() *trace {
	t := newTrace()
	for range 6 {
		for p := range uint32(simRAM) {
			t.add(p)
		}
	}
	return t
}

// zipf uses the page of rank k with a probability in proportion to 1/k^s. The
// ranks are spread over RAM at random.
func zipf(s float64) *trace {
	rng := seeded()
	t := newTrace()
	next := zipfian(rng, simRAM, s)
	place := rng.Perm(simRAM)
	for range 400_000 {
		t.add(uint32(place[next()]))
	}
	return t
}

// zipfian returns a generator of numbers below n, k with a weight of 1/(k+1)^s.
// rand.Zipf takes only an s above 1.
func zipfian(rng *rand.Rand, n int, s float64) func() int {
	sum := make([]float64, n)
	total := 0.0
	for k := range sum {
		total += math.Pow(float64(k+1), -s)
		sum[k] = total
	}
	return func() int {
		x := rng.Float64() * total
		lo, hi := 0, n-1
		for lo < hi {
			if m := (lo + hi) / 2; sum[m] < x {
				lo = m + 1
			} else {
				hi = m
			}
		}
		return lo
	}
}

// loop uses a tenth more pages than the window has, over and over, in ascending
// order or in another.
func loop(shuffled bool) *trace {
	const n = simWindow + simWindow/10
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if shuffled {
		order = seeded().Perm(n)
	}
	t := newTrace()
	for i := range 200_000 {
		t.add(uint32(order[i%n]))
	}
	return t
}

// random uses the pages of RAM with equal probability.
func random() *trace {
	rng := seeded()
	t := newTrace()
	for range 100_000 {
		t.add(rng.Uint32N(simRAM))
	}
	return t
}

// scanAndHot scans all of RAM and, for each page of it, uses four of a hot set of
// half a window.
func scanAndHot() *trace {
	rng := seeded()
	t := newTrace()
	hot := rng.Perm(simRAM)[:simWindow/2]
	for i := range uint32(100_000) {
		t.add(i % simRAM)
		for range 4 {
			t.add(uint32(hot[rng.IntN(len(hot))]))
		}
	}
	return t
}

// streams has four interleaved sequential streams, two of them descending, each
// in its quarter of RAM, and a random page after every eighth use.
func streams() *trace {
	rng := seeded()
	t := newTrace()
	const n = simRAM / 4
	for i := range uint32(6 * n) {
		at := i % n
		for _, p := range []uint32{at, n + at, 3*n - 1 - at, 4*n - 1 - at} {
			t.add(p)
			if rng.IntN(8) == 0 {
				t.add(rng.Uint32N(simRAM))
			}
		}
	}
	return t
}

// phases is zipf with eight phases, each with its own ranking.
func phases() *trace {
	rng := seeded()
	t := newTrace()
	next := zipfian(rng, simRAM, 0.99)
	for range 8 {
		place := rng.Perm(simRAM)
		for range 50_000 {
			t.add(uint32(place[next()]))
		}
	}
	return t
}
