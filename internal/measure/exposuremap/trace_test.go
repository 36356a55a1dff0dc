package exposuremap

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

// windowTrace is a trace of a window's guest, of 64 MiB and one page.
func windowTrace() *Trace {
	const ram = 64<<20 + memory.PageSize
	t := &Trace{
		Schema: Schema, Host: probe.Host{Kernel: "6.1.0", KVM: "svm", Accel: "kvm", CPUs: 2},
		Started: "2026-11-22T21:00:00Z", Guest: "payload zipf", CPUs: 1,
		Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}, Memory: ram, Window: 4 << 20,
		CellBytes: 8 * memory.PageSize, Interval: 100,
	}
	userland := 12.5
	t.ToUserland = &userland
	rng := rand.New(rand.NewPCG(1, 2))
	pages := make([]memory.PageState, ram/memory.PageSize)
	for i := range 5 {
		for range 500 * i {
			pages[rng.IntN(len(pages))] = memory.Hidden
		}
		for p := range 900 {
			if i > 0 {
				pages[(i*1000+p)%len(pages)] = memory.InWindow
			}
		}
		for p := range i * 1000 { // those before have left the window
			if pages[p] == memory.InWindow {
				pages[p] = memory.Hidden
			}
		}
		var count [memory.NumPageStates]uint64
		for _, s := range pages {
			count[s] += memory.PageSize
		}
		t.Samples = append(t.Samples, Sample{
			MS: float64(i) * 100, Untouched: count[0], Hidden: count[1], InWindow: count[2],
			ExposedPeak: uint64(min(i, 1)) * 1000 * memory.PageSize,
			Faults:      uint64(i * 2000), Exits: uint64(i * 7), Map: Cells(nil, pages, 8),
		})
	}
	return t
}

func write(t testing.TB, tr *Trace) string {
	t.Helper()
	var b bytes.Buffer
	if err := tr.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestTrace(t *testing.T) {
	want := windowTrace()
	text := write(t, want)
	got, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("read back (-want +got):\n%s", d)
	}
	for _, n := range []int{0, 1, len(text) / 2, len(text) - 2} {
		if _, err := Read(strings.NewReader(text[:n])); err == nil {
			t.Errorf("a trace cut to %d of %d bytes was read", n, len(text))
		}
	}
}

// TestReadRefuses changes one thing of a good trace at a time.
func TestReadRefuses(t *testing.T) {
	for name, breakIt := range map[string]func(*Trace){
		"schema":                  func(tr *Trace) { tr.Schema = "offmap/run/v1" },
		"date":                    func(tr *Trace) { tr.Started = "yesterday" },
		"backend":                 func(tr *Trace) { tr.Backend = "plain" },
		"attach":                  func(tr *Trace) { tr.Attach = "glue" },
		"attach auto":             func(tr *Trace) { tr.Attach = attach.Auto },
		"window of memfd":         func(tr *Trace) { tr.Backend = memory.Memfd },
		"window without a bound":  func(tr *Trace) { tr.Window = 0 },
		"bound without a window":  func(tr *Trace) { tr.Attach = attach.ViaBridge },
		"bound over the RAM":      func(tr *Trace) { tr.Window = 128 << 20 },
		"no RAM":                  func(tr *Trace) { tr.Memory = 0 },
		"part of a page":          func(tr *Trace) { tr.Memory++ },
		"all RAM there is":        func(tr *Trace) { tr.Memory = 1 << 63 },
		"cells of nothing":        func(tr *Trace) { tr.CellBytes = 0 },
		"small cells":             func(tr *Trace) { tr.CellBytes = memory.PageSize },
		"interval":                func(tr *Trace) { tr.Interval = 0 },
		"userland":                func(tr *Trace) { *tr.ToUserland = -1 },
		"vCPUs":                   func(tr *Trace) { tr.CPUs = 0 },
		"no samples":              func(tr *Trace) { tr.Samples = nil },
		"too many samples":        func(tr *Trace) { tr.Samples = make([]Sample, MaxSamples+1) },
		"sum":                     func(tr *Trace) { tr.Samples[2].Hidden += memory.PageSize },
		"sum that wraps":          func(tr *Trace) { tr.Samples[2].Hidden += 1 << 63; tr.Samples[2].Untouched += 1 << 63 },
		"over the bound":          func(tr *Trace) { tr.Window = memory.PageSize },
		"ordinary in secret":      func(tr *Trace) { s := &tr.Samples[4]; s.Ordinary, s.InWindow = s.InWindow, 0 },
		"peak under now":          func(tr *Trace) { tr.Samples[4].ExposedPeak = memory.PageSize },
		"peak over the bound":     func(tr *Trace) { tr.Samples[4].ExposedPeak = tr.Window + memory.PageSize },
		"peak goes back":          func(tr *Trace) { tr.Samples[3].ExposedPeak += memory.PageSize },
		"time goes back":          func(tr *Trace) { tr.Samples[3].MS = 1 },
		"faults go back":          func(tr *Trace) { tr.Samples[3].Faults = 1 },
		"exits go back":           func(tr *Trace) { tr.Samples[3].Exits = 0 },
		"short map":               func(tr *Trace) { m := &tr.Samples[1].Map; *m = (*m)[:100] },
		"long map":                func(tr *Trace) { m := &tr.Samples[1].Map; *m = append(*m, 0) },
		"bomb":                    func(tr *Trace) { tr.Samples[1].Map = make([]Cell, 1<<24) },
		"more than a cell":        func(tr *Trace) { tr.Samples[1].Map[0] = 0xf1 },
		"a map that hides":        func(tr *Trace) { clear(tr.Samples[4].Map) },
		"a map that shows a lie":  func(tr *Trace) { tr.Samples[0].Map[7] = 1 },
		"a map that shows nobody": func(tr *Trace) { tr.Samples[0].Map[7] = 0x10 },
	} {
		tr := windowTrace()
		breakIt(tr)
		if _, err := Read(strings.NewReader(write(t, tr))); err == nil {
			t.Errorf("%s: was read", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
	good := write(t, windowTrace())
	for name, text := range map[string]string{
		"rest":       good + "{}",
		"base64":     strings.Replace(good, `"map":"`, `"map":"!`, 1),
		"deflate":    strings.Replace(good, `"map":"`, `"map":"////`, 1),
		"negative":   strings.Replace(good, `"faults":0`, `"faults":-1`, 1),
		"huge":       strings.Replace(good, `"ms":0`, `"ms":1e300`, 1),
		"null":       "null",
		"other JSON": "[]",
		"endless":    good + strings.Repeat(" ", maxDocument),
	} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

// FuzzRead holds that what Read takes is a trace that Write writes and Read
// reads again.
func FuzzRead(f *testing.F) {
	f.Add(write(f, windowTrace()))
	f.Add(`{"schema":"offmap/exposure/v1","samples":[{}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		tr, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := Read(strings.NewReader(write(t, tr)))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tr, again); d != "" {
			t.Error(d)
		}
	})
}
