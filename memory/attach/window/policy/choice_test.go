package policy

import (
	"fmt"
	"math"
	"testing"
)

var candidates = func() []Candidate {
	with := func(s segmented) func(pages, limit int) chooser {
		return func(pages, limit int) chooser { return newSegmented(pages, limit, s) }
	}
	return append(Candidates(), []Candidate{
		{"second-chance/cool=1-4", 1. / 4, newFIFO},
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
	}...)
}()

func find(t testing.TB, name string) Candidate {
	for _, c := range candidates {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no candidate %q", name)
	return Candidate{}
}

// TestSimulate holds the simulator against what a textbook has: Belady's
// reference string, and his anomaly.
func TestSimulate(t *testing.T) {
	tr := &Trace{Pages: 6, Refs: []uint32{1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5}}
	for _, c := range []struct {
		policy string
		frames int
		faults int
	}{
		{"fifo", 3, 9}, {"fifo", 4, 10}, {"lru", 3, 10}, {"lru", 4, 8}, {"opt", 3, 7}, {"opt", 4, 6},
	} {
		r := simulate(tr, find(t, c.policy).make(6, c.frames), setup{limit: c.frames, batch: 1, fill: &Streams{Most: 1}})
		if r.Faults != c.faults || r.Evicted != c.faults-c.frames || r.Stalls != r.Evicted || r.Rescues != 0 {
			t.Errorf("%s with %d frames: %+v; want %d faults, %d evicted", c.policy, c.frames, r, c.faults, c.faults-c.frames)
		}
		want := float64(c.faults*faultCost) + float64(r.Evicted)*(zapRun+zapPage+punchRun+punchPage+storeCost)
		if first := r.Waited - want; first < -.1 || first > 5*firstCost+.1 {
			t.Errorf("%s with %d frames: the guest waited for %.1f µs, want %.1f and up to 5 first touches", c.policy, c.frames, r.Waited, want)
		}
	}
}

// TestChoice holds the reasons for which frames is as it is. A recorded boot
// or other costs can make it fail: then choose again.
func TestChoice(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: simulates for long, and the same on every kernel")
	}
	fifo, frames, opt := find(t, "fifo"), find(t, Chosen), find(t, "opt")
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
	one, many := frames.run(w.trace(), simWindow, &Streams{Most: 1}), frames.run(w.trace(), simWindow, nil)
	if many.Waited*4 > one.Waited {
		t.Errorf("%s: the guest waits %.2f µs a page, %.2f one page at a time; want 4 times as fast", w.name,
			many.Waited/float64(many.Refs), one.Waited/float64(one.Refs))
	}
}

// TestFramesAreSegmented compares frames with the other way that its policy is
// written, on what makes it do everything.
func TestFramesAreSegmented(t *testing.T) {
	for _, cool := range []float64{0, 1. / 8} {
		f := Candidate{cool: cool, make: theChoice}
		s := Candidate{cool: cool, make: func(pages, limit int) chooser {
			return newSegmented(pages, limit, segmented{young: 1. / youngShare, ghost: 1, rescued: true})
		}}
		tr := scanAndHot()
		if a, b := f.run(tr, simWindow/2, nil), s.run(tr, simWindow/2, nil); a != b {
			t.Errorf("cool %.2f: frames %+v; segmented %+v", cool, a, b)
		}
	}
}

func (r Result) report(b *testing.B) {
	n := float64(r.Refs)
	b.ReportMetric(r.cost(), "µs/ref")
	b.ReportMetric(r.Waited/n, "waited-µs/ref")
	b.ReportMetric(100*float64(r.Faults)/n, "faults/100refs")
	b.ReportMetric(100*float64(r.Rescues)/n, "rescues/100refs")
	b.ReportMetric(float64(r.Filled)/float64(max(1, r.Faults)), "pages/fault")
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n, "cpu-ns/ref")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPolicies compares what a reference to a page costs with each
// policy, in the model of simulate; -benchtime 1x is enough for that.
func BenchmarkPolicies(b *testing.B) {
	for _, w := range workloads {
		for _, limit := range w.windows {
			for _, c := range candidates {
				b.Run(fmt.Sprintf("%s/frames=%d/%s", w.name, limit, c.Name), func(b *testing.B) {
					t := w.trace()
					var r Result
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
	Streams
	n    uint32
	seen map[uint32]bool
}

func (e *eager) Next(page uint32) (lo, hi uint32) {
	lo, hi = e.Streams.Next(page)
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
	ways := []way{{"first=8", func() filler { return &eager{Streams{Most: 64}, 8, map[uint32]bool{}} }}}
	for _, most := range []uint32{1, 8, 16, 32, 64} {
		ways = append(ways, way{fmt.Sprintf("most=%d", most), func() filler { return &Streams{Most: most} }})
	}
	for _, w := range workloads {
		for _, limit := range w.windows {
			for _, way := range ways {
				b.Run(fmt.Sprintf("%s/frames=%d/%s", w.name, limit, way.name), func(b *testing.B) {
					t := w.trace()
					var r Result
					for b.Loop() {
						r = find(b, Chosen).run(t, limit, way.fill())
					}
					r.report(b)
				})
			}
		}
	}
}
