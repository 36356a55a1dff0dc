package policy

import (
	"fmt"
	"math"
	"testing"
)

func find(t testing.TB, name string) candidate {
	for _, c := range candidates {
		if c.name == name {
			return c
		}
	}
	t.Fatalf("no candidate %q", name)
	return candidate{}
}

// TestSimulate checks the simulator with the reference string of Belady's
// anomaly.
func TestSimulate(t *testing.T) {
	tr := &trace{pages: 6, refs: []uint32{1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5}}
	for _, c := range []struct {
		policy string
		frames int
		faults int
	}{
		{"fifo", 3, 9}, {"fifo", 4, 10}, {"lru", 3, 10}, {"lru", 4, 8}, {"opt", 3, 7}, {"opt", 4, 6},
	} {
		r := simulate(tr, find(t, c.policy).make(6, c.frames), setup{limit: c.frames, batch: 1, fill: &Streams{Most: 1}})
		if r.major != c.faults || r.evicted != c.faults-c.frames || r.stalls != r.evicted || r.minor != 0 {
			t.Errorf("%s with %d frames: %+v; want %d faults, %d evicted", c.policy, c.frames, r, c.faults, c.faults-c.frames)
		}
		want := float64(c.faults*majorCost) + float64(r.evicted)*(zapRun+zapPage+punchRun+punchPage+storeCost)
		if first := r.waited - want; first < -.1 || first > 5*firstCost+.1 {
			t.Errorf("%s with %d frames: the guest waited for %.1f µs, want %.1f and up to 5 first touches", c.policy, c.frames, r.waited, want)
		}
	}
}

// TestChoice checks that Frames is still the best choice, by the margins for
// which it was chosen. If another trace or other costs make it fail, compare the
// policies again.
func TestChoice(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: simulates for long, and the same on every kernel")
	}
	fifo, frames, opt := find(t, "fifo"), find(t, chosen), find(t, "opt")
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
	if many.waited*4 > one.waited {
		t.Errorf("%s: the guest waits %.2f µs a page, %.2f one page at a time; want 4 times as fast", w.name,
			many.waited/float64(many.refs), one.waited/float64(one.refs))
	}
}

// TestFramesAreSegmented compares Frames with segmented on a trace that reaches
// all of its branches.
func TestFramesAreSegmented(t *testing.T) {
	for _, unmapped := range []float64{0, 1. / 8} {
		f := candidate{unmapped: unmapped, make: newFrames}
		s := candidate{unmapped: unmapped, make: segmented{inactive: 1. / inactiveShare, refault: 1, minor: true}.make}
		tr := scanAndHot()
		if a, b := f.run(tr, simWindow/2, nil), s.run(tr, simWindow/2, nil); a != b {
			t.Errorf("%.2f unmapped: Frames %+v; segmented %+v", unmapped, a, b)
		}
	}
}

func (r result) report(b *testing.B) {
	n := float64(r.refs)
	b.ReportMetric(r.cost(), "µs/ref")
	b.ReportMetric(r.waited/n, "waited-µs/ref")
	b.ReportMetric(float64(r.major), "major-faults")
	b.ReportMetric(float64(r.minor), "minor-faults")
	b.ReportMetric(float64(r.filled)/float64(max(1, r.major)), "pages/fault")
	b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n, "cpu-ns/ref")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPolicies compares the policies by the modelled cost of a reference
// and by faults. Each run has the same result: use -benchtime 1x.
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

// eager is Streams that fills n pages for the first fault on a page, even if it
// belongs to no stream: the guest may be touching fresh memory.
type eager struct {
	Streams
	n    uint32
	seen map[uint32]bool
}

func (e *eager) Next(page uint32) (lo, hi uint32) {
	lo, hi = e.Streams.Next(page)
	if !e.seen[page] && hi-lo < e.n {
		hi = page + min(e.n, math.MaxUint32-page)
		e.streams[0].hi = hi
	}
	e.seen[page] = true
	return lo, hi
}

// BenchmarkFills compares ways to read ahead.
func BenchmarkFills(b *testing.B) {
	type way struct {
		name string
		fill func() readahead
	}
	ways := []way{{"first=8", func() readahead { return &eager{Streams{Most: 64}, 8, map[uint32]bool{}} }}}
	for _, most := range []uint32{1, 8, 16, 32, 64} {
		ways = append(ways, way{fmt.Sprintf("most=%d", most), func() readahead { return &Streams{Most: most} }})
	}
	for _, w := range workloads {
		for _, limit := range w.windows {
			for _, way := range ways {
				b.Run(fmt.Sprintf("%s/frames=%d/%s", w.name, limit, way.name), func(b *testing.B) {
					t := w.trace()
					var r result
					for b.Loop() {
						r = find(b, chosen).run(t, limit, way.fill())
					}
					r.report(b)
				})
			}
		}
	}
}
