package bench

import (
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"offmap/guest/payload"
	"offmap/internal/measure/probe"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/attach/window/policy"
	"offmap/memory/memtest"
	"offmap/memory/uffd"
)

var windowed = Subject{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}}

// needWindow skips the test where there can be no window.
func needWindow(t *testing.T) {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v)", err)
	}
	sys.Close()
	if err := uffd.Probe(); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	layout, err := memory.NewLayout(memory.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	ram, err := memory.New(memory.Secret, layout)
	memtest.NeedBackend(t, err)
	if err := ram.Close(); err != nil {
		t.Error(err)
	}
}

func quickEnv() *Env { return &Env{Host: ThisHost(os.DirFS("/")), Quick: true} }

// sampleOf takes a sample as the runner does. It returns the values by metric.
func sampleOf(t *testing.T, e *Env, sc Scenario, s Subject) map[string]float64 {
	t.Helper()
	values, err := sc.Sample(t.Context(), e, s)
	if errors.Is(err, ErrCannot) {
		t.Skipf("SKIPPED: %s: %v", s, err)
	}
	if err != nil || len(values) != len(sc.Metrics) {
		t.Fatalf("%s: %d values, %v; want %d", s, len(values), err, len(sc.Metrics))
	}
	by := map[string]float64{}
	for i, m := range sc.Metrics {
		by[m.Name] = values[i]
	}
	return by
}

// TestWindowScenarios checks a sample of each scenario for what is true on any
// machine.
func TestWindowScenarios(t *testing.T) {
	needWindow(t)
	e := quickEnv()
	sampleOf(t, e, windowCounts(), windowed) // what is allocated once
	for _, c := range []struct {
		scenario Scenario
		check    func(t *testing.T, v map[string]float64)
	}{
		{windowFault(), func(t *testing.T, v map[string]float64) {
			for _, order := range []string{"scattered", "sequential"} {
				if p50, p99 := v[order+"-p50"], v[order+"-p99"]; !(p50 > 500 && p99 >= p50) {
					t.Errorf("%s: p50 %v, p99 %v", order, p50, p99)
				}
			}
			if s, q := v["scattered-page"], v["sequential-page"]; !(s > q && q > 0) {
				t.Errorf("%v ns a page scattered, %v in sequence: there is no readahead", s, q)
			}
			// Pages in random order are hardly ever in the window.
			if share := v["scattered-rate"] * v["scattered-page"] / 1e9; share < .8 || share > 1 {
				t.Errorf("%.2f faults a page in a window of an eighth", share)
			}
		}},
		{windowSize(), func(t *testing.T, v map[string]float64) {
			if small, all := v["zipf/2MiB"], v["zipf/24MiB"]; !(small > 3*all && all > 1) {
				t.Errorf("%v ns an access with 2 MiB, %v with all in the window", small, all)
			}
			if !math.IsNaN(v["zipf/4MiB"]) || !math.IsNaN(v["random/2MiB"]) {
				t.Errorf("a quick run measured more than it should: %v", v)
			}
		}},
		{windowCounts(), func(t *testing.T, v map[string]float64) {
			last := math.Inf(1)
			for _, w := range countedWindows {
				n := v["zipf/"+sizeName(w)]
				if n > last*1.05 {
					t.Errorf("%v faults with %d KiB, %v with less", n, w>>10, last)
				}
				last = n
			}
			if pages := float64(countedSet / memory.PageSize); last < pages/policy.MaxFill || last > pages/4 {
				t.Errorf("%v faults where all %v pages fit, and a sequential stream uses them first", last, pages)
			}
			if s, q := v["scattered"], v["sequential"]; s < .7 || s > 1.05 || q > .3 || q <= 0 {
				t.Errorf("%v faults a page scattered, %v in sequence", s, q)
			}
		}},
	} {
		t.Run(c.scenario.Name, func(t *testing.T) {
			leaks := memtest.Leaks(t)
			c.check(t, sampleOf(t, e, c.scenario, windowed))
			leaks()
		})
	}
}

// TestWindowControl checks that ordinary memory has one value for all sizes.
func TestWindowControl(t *testing.T) {
	needWindow(t)
	v := sampleOf(t, quickEnv(), windowSize(), memfd)
	for _, w := range quickWindows {
		if got := v["zipf/"+sizeName(w)]; got != v["zipf/2MiB"] || !(got > 1) {
			t.Errorf("memfd: %v ns at %d MiB", got, w>>20)
		}
	}
}

// TestWindowCancelled checks that a cancelled sample leaves nothing behind.
func TestWindowCancelled(t *testing.T) {
	needWindow(t)
	stop := errors.New("stop")
	leaks := memtest.Leaks(t)
	for _, sc := range []Scenario{windowFault(), windowSize(), windowCounts()} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		if _, err := sc.Sample(ctx, quickEnv(), windowed); !errors.Is(err, stop) {
			t.Errorf("%s: %v", sc.Name, err)
		}
	}
	leaks()
}

// TestWindowSubjects checks that nothing is measured where there is no window.
func TestWindowSubjects(t *testing.T) {
	e := &Env{Host: Host{Host: probe.Host{Accel: "kvm"}}, Baseline: "baseline"}
	baseline := Subject{Pair: attach.Pair{Backend: memory.Secret}, Peer: C}
	for _, sc := range windowScenarios() {
		if got := sc.Subjects(e, []Subject{memfd, anon, secret}); len(got) != 0 {
			t.Errorf("%s without a window: %v", sc.Name, got)
		}
		got := sc.Subjects(e, []Subject{memfd, secret, windowed})
		if got[0] != windowed || slices.Contains(got, secret) {
			t.Errorf("%s: %v", sc.Name, got)
		}
		if slices.Contains(got, baseline) != (sc.Name == "window-fault") || slices.Contains(got, memfd) != (sc.Name == "window-size") {
			t.Errorf("%s: %v", sc.Name, got)
		}
	}
}

// TestScan checks which reports of a guest are accepted.
func TestScan(t *testing.T) {
	const good = "churn: 4 rounds over 8192 pages, 123 cycles\n"
	var rounds, pages, cycles uint64
	if err := scan(good, payload.ChurnReport, &rounds, &pages, &cycles); err != nil || rounds != 4 || pages != 8192 || cycles != 123 {
		t.Errorf("%d, %d, %d, %v", rounds, pages, cycles, err)
	}
	for _, said := range []string{
		"", "churn: ", good[:len(good)-1], good + good, "\n" + good, " " + good,
		strings.Replace(good, "4", "-4", 1), strings.Replace(good, "4", "04", 1), strings.Replace(good, "4", "+4", 1),
		strings.Replace(good, "123", "99999999999999999999", 1), strings.Replace(good, "8192", "8_192", 1),
	} {
		if err := scan(said, payload.ChurnReport, &rounds, &pages, &cycles); err == nil {
			t.Errorf("%q was taken for a report", said)
		}
	}
}

// FuzzScan checks that an accepted report has nothing else in it.
func FuzzScan(f *testing.F) {
	f.Add("zipf: 1 accesses to 2 pages, 3 cycles\n")
	f.Add("zipf: 18446744073709551615 accesses to 0x2 pages, 3 cycles\n\n")
	f.Fuzz(func(t *testing.T, said string) {
		var a, p, c uint64
		err := scan(said, payload.ZipfReport, &a, &p, &c)
		if err == nil && (!strings.HasPrefix(said, "zipf: ") || len(said) > 100 || strings.Count(said, "\n") != 1) {
			t.Errorf("%q was taken for a report", said)
		}
		if err != nil && len(err.Error()) > 1500 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
