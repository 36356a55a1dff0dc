package vmm

import (
	"fmt"
	"testing"

	"golang.org/x/perf/benchmath"

	"offmap/guest/payload"
	"offmap/memory"
	"offmap/memory/attach"
)

// BenchmarkWorkingSet compares a working set that fits the window with one in
// ordinary memory, one run of each by turns: a run is as good as the moment
// that it falls into, and moments differ by more than what is looked for. Give
// it enough of them, -benchtime 20x. It fails if the window is slower by more
// than 3 % and that is no chance, or if the guest faults when it has warmed up.
func BenchmarkWorkingSet(b *testing.B) {
	needWindow(b)
	const (
		size, bound, set = 64 << 20, 24 << 20, 16 << 20
		random           = 1
		confidence       = 0.95
	)
	for _, c := range []struct {
		name         string
		mode, rounds uint64
	}{
		{"sequential", 0, 150},
		{"random", random, 60},
	} {
		b.Run(c.name, func(b *testing.B) {
			churn := func(m attach.Method, rounds uint64) (cycles float64, faults uint64) {
				cfg := argsConfig(b, "churn", 1, size, set, rounds, c.mode)
				if m == attach.ViaWindow {
					cfg.Backend, cfg.Attach, cfg.Options.Window = memory.Secret, m, bound
				}
				r, out, _ := runPayload(b, cfg, alone)
				var n, pages, total uint64
				if _, err := fmt.Sscanf(out, payload.ChurnReport, &n, &pages, &total); err != nil || n != rounds || pages != set/memory.PageSize {
					b.Fatalf("%q: %v", out, err)
				}
				if r.Faults != nil {
					faults = r.Faults.Count
				}
				return float64(total) / float64(n*pages), faults
			}
			_, warm := churn(attach.ViaWindow, 1)
			var direct, window []float64
			for b.Loop() {
				d, _ := churn(attach.Direct, c.rounds)
				w, faults := churn(attach.ViaWindow, c.rounds)
				direct, window = append(direct, d), append(window, w)
				if faults > warm {
					b.Errorf("%d faults in %d rounds, %d in one", faults, c.rounds, warm)
				}
			}
			d := benchmath.NewSample(direct, &benchmath.DefaultThresholds)
			w := benchmath.NewSample(window, &benchmath.DefaultThresholds)
			md, mw := benchmath.AssumeNothing.Summary(d, confidence), benchmath.AssumeNothing.Summary(w, confidence)
			cmp := benchmath.AssumeNothing.Compare(d, w)
			b.ReportMetric(md.Center, "direct-cycles/page")
			b.ReportMetric(mw.Center, "window-cycles/page")
			b.ReportMetric(100*(mw.Center/md.Center-1), "slower-%")
			b.ReportMetric(cmp.P, "p")
			b.ReportMetric(float64(warm), "faults")
			if mw.Center > 1.03*md.Center && cmp.P < cmp.Alpha {
				b.Errorf("cycles a page: %v direct, %v behind the window: %v", md, mw, cmp)
			}
		})
	}
}
