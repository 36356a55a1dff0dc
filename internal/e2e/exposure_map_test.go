package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"offmap/internal/measure/exposuremap"
	"offmap/internal/measure/guestrun"
	"offmap/memory"
)

// recordLinux boots Linux, has it fill more memory than its kernel does, and
// returns the trace of where its pages were.
func recordLinux(t *testing.T, backend string, more ...string) (*exposuremap.Trace, *guestrun.Document) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "trace.json")
	args := linux(backend, "canary -pages 8192", append([]string{"-m", "256", "--exposure", file}, more...)...)
	d, _ := report(t, 0, args...)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr, err := exposuremap.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	last := tr.Samples[len(tr.Samples)-1]
	t.Logf("%s: %d samples in %.1f s, one every %.0f ms or so; at the end %d MiB untouched, %d hidden, %d in the window, %d ordinary",
		tr.Pair, len(tr.Samples), last.MS/1000, last.MS/float64(len(tr.Samples)),
		last.Untouched>>20, last.Hidden>>20, last.InWindow>>20, last.Ordinary>>20)
	if tr.ToUserland == nil || tr.Memory != d.Memory || len(tr.Samples) < 4 {
		t.Errorf("%d samples, userland told: %v; the report: %+v", len(tr.Samples), tr.ToUserland != nil, d)
	}
	if populated := tr.Memory - last.Untouched; populated != d.Populated || populated < 8192*memory.PageSize {
		t.Errorf("by page %d bytes are populated, the report has %d", populated, d.Populated)
	}
	for i := 1; i < len(tr.Samples); i++ {
		if a, b := tr.Samples[i-1], tr.Samples[i]; b.Untouched > a.Untouched && b.InWindow == 0 {
			t.Errorf("%d bytes are untouched again at %v ms", b.Untouched-a.Untouched, b.MS)
		}
	}
	return tr, d
}

// TestExposureMap looks at the pages of Linux guests while they boot: behind a
// bridge none is ever exposed, in ordinary memory all are that have memory, and
// behind a window never more than it holds.
func TestExposureMap(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	t.Run("bridge", func(t *testing.T) {
		tr, _ := recordLinux(t, "secret")
		if tr.Attach != "bridge" {
			t.Fatalf("attach %s", tr.Attach)
		}
		for _, s := range tr.Samples {
			if s.Exposed() > 0 || s.ExposedPeak > 0 || s.Hidden == 0 {
				t.Fatalf("at %v ms: %+v", s.MS, s)
			}
		}
	})
	t.Run("anon", func(t *testing.T) {
		tr, d := recordLinux(t, "anon")
		for _, s := range tr.Samples {
			if s.Hidden > 0 || s.Ordinary == 0 {
				t.Fatalf("at %v ms: %+v", s.MS, s)
			}
		}
		if last := tr.Samples[len(tr.Samples)-1]; last.Ordinary != d.Exposed {
			t.Errorf("%d bytes are ordinary, and the report has %d exposed", last.Ordinary, d.Exposed)
		}
	})
	t.Run("window", func(t *testing.T) {
		const bound = 64 << 20
		tr, d := recordLinux(t, "secret", "--attach", "window", "--window", "64M")
		last := tr.Samples[len(tr.Samples)-1]
		if tr.Window != bound || last.ExposedPeak != d.ExposedPeak || last.ExposedPeak > bound || last.ExposedPeak < bound/2 || last.Faults == 0 {
			t.Errorf("a window of %d: %d bytes exposed at the peak, the report has %d; %d faults", tr.Window, last.ExposedPeak, d.ExposedPeak, last.Faults)
		}
	})
}
