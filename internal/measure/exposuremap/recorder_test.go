package exposuremap

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
)

// counter is a guest of 1 MiB whose time goes by when it is looked at, and that
// uses one page more each time.
type counter struct {
	looks int
	took  time.Duration // that a look takes
	fails int           // at which look; 0 is never
}

func (c *counter) Pages() int { return 256 }

func (c *counter) Look(pages []memory.PageState) (vmm.Look, error) {
	time.Sleep(c.took)
	c.looks++
	if c.looks == c.fails {
		return vmm.Look{}, errors.New("gone")
	}
	pages[(c.looks-1)%len(pages)] = memory.Ordinary
	n := uint64(min(c.looks, len(pages))) * memory.PageSize
	return vmm.Look{
		At: time.Duration(c.looks-1) * 100 * time.Millisecond, Exits: uint64(c.looks),
		Usage: attach.Usage{Populated: n, Exposed: n, ExposedPeak: n},
	}, nil
}

func newRecorder() *Recorder {
	return NewRecorder(Trace{
		Started: "2026-11-22T21:00:00Z", CPUs: 1, Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}, Memory: 1 << 20,
	}, 100*time.Millisecond)
}

// TestRecorder records runs of all lengths: the samples are as far apart as the
// trace says, they are few, they reach from the first look to the last, and they
// are a trace that can be read.
func TestRecorder(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100, MaxSamples - 1, MaxSamples, MaxSamples + 1, 3*MaxSamples/2 + 1, 2 * MaxSamples, 5*MaxSamples + 7} {
		g, r := &counter{}, newRecorder()
		pages := make([]memory.PageState, g.Pages())
		for range n {
			l, err := g.Look(pages)
			if err != nil {
				t.Fatal(err)
			}
			r.See(l, pages)
		}
		tr := r.Trace()
		if len(tr.Samples) > MaxSamples || n > MaxSamples && len(tr.Samples) < MaxSamples/2 || n < MaxSamples && len(tr.Samples) != n {
			t.Errorf("%d looks: %d samples", n, len(tr.Samples))
		}
		if first, last := tr.Samples[0], tr.Samples[len(tr.Samples)-1]; first.MS != 0 || last.MS != float64(n-1)*100 || last.Exits != uint64(n) {
			t.Errorf("%d looks: samples from %v to %v ms", n, first.MS, last.MS)
		}
		for i := 1; i < len(tr.Samples)-1; i++ {
			if d := tr.Samples[i].MS - tr.Samples[i-1].MS; d != tr.Interval {
				t.Fatalf("%d looks: %v ms from sample %d to the next, want %v", n, d, i-1, tr.Interval)
			}
		}
		if n > 100 && n != MaxSamples { // packing takes time
			continue
		}
		if _, err := Read(strings.NewReader(write(t, tr))); err != nil {
			t.Errorf("%d looks: %v", n, err)
		}
	}
}

// TestWatch watches for a while: a look at once, one every interval, and one at
// the end.
func TestWatch(t *testing.T) { synctest.Test(t, testWatch) }

func testWatch(t *testing.T) {
	g := &counter{}
	if err := Watch(g, time.Hour)(); err != nil || g.looks != 2 {
		t.Errorf("%d looks without time for any between the first and the last (%v)", g.looks, err)
	}
	g, r := &counter{}, newRecorder()
	stop := Watch(g, 10*time.Millisecond, r)
	time.Sleep(205 * time.Millisecond)
	if err := errors.Join(stop(), stop()); err != nil {
		t.Error(err)
	}
	if got := len(r.Trace().Samples); got != g.looks || got != 22 {
		t.Errorf("%d samples of %d looks in 205 ms, at one every 10 ms", got, g.looks)
	}
}

// TestWatchIsNoBurden has looks that take long: there are fewer of them.
func TestWatchIsNoBurden(t *testing.T) { synctest.Test(t, testWatchIsNoBurden) }

func testWatchIsNoBurden(t *testing.T) {
	g := &counter{took: 10 * time.Millisecond}
	stop := Watch(g, 10*time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if most := int(math.Ceil(500./10/maxShare)) + 2; g.looks > most {
		t.Errorf("%d looks of 10 ms in 500 ms, want at most %d", g.looks, most)
	}
}

func TestWatchFails(t *testing.T) { synctest.Test(t, testWatchFails) }

func testWatchFails(t *testing.T) {
	g, r := &counter{fails: 3}, newRecorder()
	stop := Watch(g, time.Millisecond, r)
	time.Sleep(50 * time.Millisecond)
	if err := stop(); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("stop returns %v", err)
	}
	if n := len(r.Trace().Samples); n != 2 || g.looks != 3 {
		t.Errorf("%d samples of %d looks, of which the third failed", n, g.looks)
	}
}
