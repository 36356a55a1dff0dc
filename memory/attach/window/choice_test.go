package window

import (
	"fmt"
	"math"
	"testing"
)

// candidate is a policy and the part of the window that is kept cool with it.
// With none, as many pages are cool as are evicted at once, and for no longer.
type candidate struct {
	name string
	cool float64
	make func(pages, limit int) policy
}

func newFIFO(pages, limit int) policy   { return &fifo{newPool(pages, limit)} }
func newLRU(pages, limit int) policy    { return &lru{fifo{newPool(pages, limit)}} }
func newOPT(pages, limit int) policy    { return &opt{pool: newPool(pages, limit)} }
func theChoice(pages, limit int) policy { return newFrames(pages, limit) }

var candidates = func() []candidate {
	with := func(s segmented) func(pages, limit int) policy {
		return func(pages, limit int) policy { return newSegmented(pages, limit, s) }
	}
	return []candidate{
		{"fifo", 0, newFIFO},
		{"fifo/cool=1-16", 1. / 16, newFIFO}, // second chance
		{"fifo/cool=1-4", 1. / 4, newFIFO},
		{"frames", 0, theChoice},
		{"frames/cool=1-16", 1. / 16, theChoice},
		{"frames/cool=1-8", 1. / 8, theChoice},
		{"frames/cool=1-4", 1. / 4, theChoice},
		{"only-rescues/cool=1-16", 1. / 16, with(segmented{young: .25, rescued: true})},
		{"only-rescues/cool=1-8", 1. / 8, with(segmented{young: .25, rescued: true})},
		{"young=1-10", 0, with(segmented{young: .1, ghost: 1, rescued: true})},
		{"young=1-2", 0, with(segmented{young: .5, ghost: 1, rescued: true})},
		{"ghosts=1-2", 0, with(segmented{young: .25, ghost: .5, rescued: true})},
		{"ghosts=2", 0, with(segmented{young: .25, ghost: 2, rescued: true})},
		{"walked=1-16", 0, with(segmented{young: .25, ghost: 1, rescued: true, walked: 1. / 16})},
		{"lru", 0, newLRU}, // needs to see every reference
		{"opt", 0, newOPT}, // needs to see the future
	}
}()

// usual is how the pager is set up, with fill in place of streams if it isn't
// nil.
func (c candidate) usual(limit int, fill filler) setup {
	most := max(1, min(64, limit/16))
	if fill == nil {
		fill = &streams{most: uint32(most)}
	}
	return setup{limit: limit, cool: int(c.cool * float64(limit)), low: 2 * most, batch: 32, fill: fill}
}

func (c candidate) run(t *trace, limit int, fill filler) result {
	return simulate(t, c.make(int(t.pages), limit), c.usual(limit, fill))
}

func find(t testing.TB, name string) candidate {
	for _, c := range candidates {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("no candidate %q", name)
	return candidate{}
}

// TestSimulate holds the simulator against what a textbook has: Belady's
// reference string, and his anomaly.
func TestSimulate(t *testing.T) {
	tr := &trace{pages: 6, refs: []uint32{1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5}}
	for _, c := range []struct {
		policy string
		frames int
		faults int
	}{
		{"fifo", 3, 9}, {"fifo", 4, 10}, {"lru", 3, 10}, {"lru", 4, 8}, {"opt", 3, 7}, {"opt", 4, 6},
	} {
		r := simulate(tr, find(t, c.policy).make(6, c.frames), setup{limit: c.frames, batch: 1, fill: &streams{most: 1}})
		if r.faults != c.faults || r.evicted != c.faults-c.frames || r.stalls != r.evicted || r.rescues != 0 {
			t.Errorf("%s with %d frames: %+v; want %d faults, %d evicted", c.policy, c.frames, r, c.faults, c.faults-c.frames)
		}
		want := float64(c.faults*faultCost) + float64(r.evicted)*(zapRun+zapPage+punchRun+punchPage+storeCost)
		if first := r.waited - want; first < -.1 || first > 5*firstCost+.1 {
			t.Errorf("%s with %d frames: the guest waited for %.1f µs, want %.1f and up to 5 first touches", c.policy, c.frames, r.waited, want)
		}
	}
}

// TestChoice holds the reasons for which frames is as it is. A recorded boot
// or other costs can make it fail: then choose again.
func TestChoice(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: simulates for long, and the same on every kernel")
	}
	fifo, frames, opt := find(t, "fifo"), find(t, "frames"), find(t, "opt")
	gains := map[string]float64{"zipf": .15, "loop-shuffled": .25, "scan+hot": .7, "phases": .15, "boot": .05}
	for _, w := range workloads {
		for _, limit := range w.windows {
			was, is := fifo.run(w.trace(), limit, nil), frames.run(w.trace(), limit, nil)
			if is.cost() > was.cost()*(1.06-gains[w.name]) {
				t.Errorf("%s, %d frames: %.2f µs a reference, %.2f with plain FIFO; gain wanted %.0f%%", w.name, limit, is.cost(), was.cost(), 100*gains[w.name])
			}
			if best := opt.run(w.trace(), limit, nil); best.cost() > is.cost() {
				t.Errorf("%s, %d frames: %.2f µs a reference, %.2f with the future known", w.name, limit, is.cost(), best.cost())
			}
		}
	}
	w := workloads[0]
	one, many := frames.run(w.trace(), simWindow, &streams{most: 1}), frames.run(w.trace(), simWindow, nil)
	if many.waited*4 > one.waited {
		t.Errorf("%s: the guest waits %.2f µs a page, %.2f one page at a time; want 4 times as fast", w.name,
			many.waited/float64(many.refs), one.waited/float64(one.refs))
	}
}

// TestFramesAreSegmented compares frames with the other way that its policy is
// written, on what makes it do everything.
func TestFramesAreSegmented(t *testing.T) {
	for _, cool := range []float64{0, 1. / 8} {
		f := candidate{cool: cool, make: theChoice}
		s := candidate{cool: cool, make: func(pages, limit int) policy {
			return newSegmented(pages, limit, segmented{young: 1. / youngShare, ghost: 1, rescued: true})
		}}
		tr := scanAndHot()
		if a, b := f.run(tr, simWindow/2, nil), s.run(tr, simWindow/2, nil); a != b {
			t.Errorf("cool %.2f: frames %+v; segmented %+v", cool, a, b)
		}
	}
}

func (r result) report(b *testing.B) {
	n := float64(r.refs)
	b.ReportMetric(r.cost(), "µs/ref")
	b.ReportMetric(r.waited/n, "waited-µs/ref")
	b.ReportMetric(100*float64(r.faults)/n, "faults/100refs")
	b.ReportMetric(100*float64(r.rescues)/n, "rescues/100refs")
	b.ReportMetric(float64(r.filled)/float64(max(1, r.faults)), "pages/fault")
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n, "cpu-ns/ref")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPolicies compares what a reference to a page costs with each
// policy, in the model of simulate; -benchtime 1x is enough for that.
func BenchmarkPolicies(b *testing.B) {
	for _, w := range workloads {
		for _, limit := range w.windows {
			for _, c := range candidates {
				b.Run(fmt.Sprintf("%s/frames=%d/%s", w.name, limit, c.name), func(b *testing.B) {
					t := w.trace()
					var r result
					for b.Loop() {
						r = c.run(t, limit, nil)
					}
					r.report(b)
				})
			}
		}
	}
}

// eager fills more than one page where there is no walk yet, but the page has
// not been asked for before: a guest that touches fresh memory.
type eager struct {
	streams
	n    uint32
	seen map[uint32]bool
}

func (e *eager) next(page uint32) (lo, hi uint32) {
	lo, hi = e.streams.next(page)
	if !e.seen[page] && hi-lo < e.n {
		hi = page + min(e.n, math.MaxUint32-page)
		e.walks[0].hi = hi
	}
	e.seen[page] = true
	return lo, hi
}

// BenchmarkFills compares ways to fill more than one page at once.
func BenchmarkFills(b *testing.B) {
	type way struct {
		name string
		fill func() filler
	}
	ways := []way{{"first=8", func() filler { return &eager{streams{most: 64}, 8, map[uint32]bool{}} }}}
	for _, most := range []uint32{1, 8, 16, 32, 64} {
		ways = append(ways, way{fmt.Sprintf("most=%d", most), func() filler { return &streams{most: most} }})
	}
	for _, w := range workloads {
		for _, limit := range w.windows {
			for _, way := range ways {
				b.Run(fmt.Sprintf("%s/frames=%d/%s", w.name, limit, way.name), func(b *testing.B) {
					t := w.trace()
					var r result
					for b.Loop() {
						r = find(b, "frames").run(t, limit, way.fill())
					}
					r.report(b)
				})
			}
		}
	}
}
