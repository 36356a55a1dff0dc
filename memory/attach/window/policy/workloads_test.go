package policy

import (
	"math"
	"math/rand/v2"
	"sync"
)

// window of the made-up traces, and RAM of their guests, in pages.
const (
	simWindow = 2048
	simRAM    = 8 * simWindow
)

// workload is a trace and the windows to replay it in.
type workload struct {
	name    string
	windows []int
	trace   func() *Trace
}

var workloads = []workload{
	{"sweep", []int{simWindow}, sync.OnceValue(sweep)},
	{"zipf", []int{simWindow}, sync.OnceValue(func() *Trace { return zipf(0.99) })},
	{"loop", []int{simWindow}, sync.OnceValue(func() *Trace { return loop(false) })},
	{"loop-shuffled", []int{simWindow}, sync.OnceValue(func() *Trace { return loop(true) })},
	{"random", []int{simWindow}, sync.OnceValue(random)},
	{"scan+hot", []int{simWindow}, sync.OnceValue(scanAndHot)},
	{"walks", []int{simWindow}, sync.OnceValue(walks)},
	{"phases", []int{simWindow}, sync.OnceValue(phases)},
	{"boot", []int{8192, 16384}, Boot},
}

// madeUp is a trace in the making.
type madeUp struct{ Trace }

func newMadeUp() *madeUp { return &madeUp{Trace{Pages: simRAM}} }

func (t *madeUp) add(page uint32) { t.Refs = append(t.Refs, page) }

func seeded() *rand.Rand { return rand.New(rand.NewPCG(7, 11)) }

// sweep goes through RAM from the first page to the last, several times.
func sweep() *Trace {
	t := newMadeUp()
	for range 6 {
		for p := range uint32(simRAM) {
			t.add(p)
		}
	}
	return &t.Trace
}

// zipf uses page k in the order of popularity with a probability of 1/k^s; the
// popular are strewn over RAM.
func zipf(s float64) *Trace {
	rng := seeded()
	t := newMadeUp()
	next := zipfian(rng, simRAM, s)
	place := rng.Perm(simRAM)
	for range 400_000 {
		t.add(uint32(place[next()]))
	}
	return &t.Trace
}

// zipfian draws numbers below n, k with a weight of 1/(k+1)^s. (rand.Zipf is
// only for s above 1.)
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

// loop goes round a tenth more pages than the window has, in the order of
// their numbers or in another.
func loop(shuffled bool) *Trace {
	const n = simWindow + simWindow/10
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	if shuffled {
		order = seeded().Perm(n)
	}
	t := newMadeUp()
	for i := range 200_000 {
		t.add(uint32(order[i%n]))
	}
	return &t.Trace
}

// random uses all of RAM alike.
func random() *Trace {
	rng := seeded()
	t := newMadeUp()
	for range 100_000 {
		t.add(rng.Uint32N(simRAM))
	}
	return &t.Trace
}

// scanAndHot has half a window of hot pages, and something that reads all of
// RAM meanwhile: for each page of it, four uses of hot ones.
func scanAndHot() *Trace {
	rng := seeded()
	t := newMadeUp()
	hot := rng.Perm(simRAM)[:simWindow/2]
	for i := range uint32(100_000) {
		t.add(i % simRAM)
		for range 4 {
			t.add(uint32(hot[rng.IntN(len(hot))]))
		}
	}
	return &t.Trace
}

// walks has four sequential walks at once, two of them down, each in its
// quarter of RAM, and every eighth use somewhere else.
func walks() *Trace {
	rng := seeded()
	t := newMadeUp()
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
	return &t.Trace
}

// phases has a Zipf walk whose popular pages change altogether every now and
// then: what was hot must not be kept for ever.
func phases() *Trace {
	rng := seeded()
	t := newMadeUp()
	next := zipfian(rng, simRAM, 0.99)
	for range 8 {
		place := rng.Perm(simRAM)
		for range 50_000 {
			t.add(uint32(place[next()]))
		}
	}
	return &t.Trace
}
