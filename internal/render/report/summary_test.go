package report

import (
	"strings"
	"testing"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/probe"
)

// result makes a result of a subject whose values are all alike but for a
// spread of a tenth about the median.
func result(name, unit string, s bench.Subject, median float64) bench.Result {
	return bench.Result{
		Name: name, Subject: s, Unit: unit, Accel: "kvm", Status: bench.Measured,
		Values: []float64{median * 0.95, median, median * 1.05}, Median: median, Low: median * 0.95, High: median * 1.05, Confidence: 0.95,
	}
}

// beside adds what came of the comparison with memfd.
func beside(r bench.Result, ratio float64, verdict string) bench.Result {
	r.Against = &bench.Comparison{Subject: memfdDirect.String(), Ratio: ratio, P: 0.01, Verdict: verdict}
	return r
}

func more(r bench.Result) bench.Result { r.More = true; return r }

func point(r bench.Result, x float64) bench.Result {
	r.Curve, r.X, r.XUnit = "working set", x, "B"
	return r
}

// TestCosts holds what the summary says of benchmarks, word by word.
func TestCosts(t *testing.T) {
	tests := []struct {
		name    string
		accel   string
		partial bool
		missing []bench.Unavailable
		results []bench.Result
		want    []string
	}{
		{
			name: "worse",
			results: []bench.Result{
				result("touch/one-thread", "ns/page", memfdDirect, 2400),
				beside(result("touch/one-thread", "ns/page", secretBridge, 14900), 6.2083, bench.Worse),
				result("touch/one-thread", "ns/page", baselineSecret, 14200),
			},
			want: []string{
				"In short. In secret+bridge, 1 of 1 figure cost more than in ordinary memory, at the most 6.2× (touch (one thread)).",
				"Cost, secret+bridge. Dearer: touch (one thread) 14.9 µs/page against 2.40 in memfd (6.2×, at 95 % 5.6× to 6.9×; plain C 14.2).",
			},
		},
		{
			name: "less bandwidth is dearer",
			results: []bench.Result{
				more(result("stream/read", "B/s", memfdDirect, 10e9)),
				more(beside(result("stream/read", "B/s", secretWindow, 5e9), 0.5, bench.Worse)),
			},
			want: []string{
				"In short. In secret+window, 1 of 1 figure cost more than in ordinary memory, at the most 2.0× (stream (read)).",
				"Cost, secret+window. Dearer: stream (read) 5.00 GB/s against 10.0 in memfd (0.50×, at 95 % 0.45× to 0.55×).",
			},
		},
		{
			name: "no difference seen",
			results: []bench.Result{
				result("exits/port-write", "ns/op", memfdDirect, 1500),
				beside(result("exits/port-write", "ns/op", secretBridge, 1600), 1.0667, bench.NoDifference),
			},
			want: []string{
				"In short. In secret+bridge, 0 of 1 figure cost more than in ordinary memory; for 1 no difference was seen.",
				"Cost, secret+bridge. No difference seen: exits (port write).",
			},
		},
		{
			name: "cheaper",
			results: []bench.Result{
				result("boot/to-userland", "sec", memfdDirect, 2),
				beside(result("boot/to-userland", "sec", secretBridge, 1), 0.5, bench.Better),
			},
			want: []string{
				"In short. In secret+bridge, 0 of 1 figure cost more than in ordinary memory; 1 cost less.",
				"Cost, secret+bridge. Cheaper: boot (to userland) 1.00 s against 2.00 in memfd (0.50×, at 95 % 0.45× to 0.55×).",
			},
		},
		{
			name: "a curve is one figure, told by its greatest difference",
			results: []bench.Result{
				point(result("latency/chase/4KiB", "ns/op", memfdDirect, 2), 4096),
				point(beside(result("latency/chase/4KiB", "ns/op", secretBridge, 2), 1, bench.NoDifference), 4096),
				point(result("latency/chase/1GiB", "ns/op", memfdDirect, 100), 1<<30),
				point(beside(result("latency/chase/1GiB", "ns/op", secretBridge, 140), 1.4, bench.Worse), 1<<30),
			},
			want: []string{
				"In short. In secret+bridge, 1 of 1 figure cost more than in ordinary memory, at the most 1.40× (latency (chase) at a working set of 1 GiB).",
				"Cost, secret+bridge. Dearer: latency (chase) at a working set of 1 GiB 140 ns/op against 100 in memfd (1.40×, at 95 % 1.27× to 1.55×), no difference seen at 1 of 2 points.",
			},
		},
		{
			name: "too few values promise nothing",
			results: []bench.Result{
				func() bench.Result { r := result("a/b", "ns/op", memfdDirect, 10); r.Confidence = 0.75; return r }(),
				beside(result("a/b", "ns/op", secretBridge, 20), 2, bench.Worse),
			},
			want: []string{
				"In short. In secret+bridge, 1 of 1 figure cost more than in ordinary memory, at the most 2.0× (a (b)).",
				"Cost, secret+bridge. Dearer: a (b) 20.0 ns/op against 10.0 in memfd (2.0×).",
			},
		},
		{
			name: "too few values to see anything",
			results: []bench.Result{
				result("a/b", "ns/op", memfdDirect, 10),
				func() bench.Result {
					r := beside(result("a/b", "ns/op", secretBridge, 20), 2, bench.TooFew)
					r.Confidence = 0.75
					return r
				}(),
			},
			want: []string{
				"In short. In secret+bridge, 0 of 1 figure cost more than in ordinary memory; for 1 there are too few values to see one.",
				"Cost, secret+bridge. Too few values to see any: a (b).",
			},
		},
		{
			name:    "nothing measured, and why",
			accel:   "tcg",
			partial: true,
			missing: []bench.Unavailable{{Subject: secretBridge, Reason: "no /dev/offmap"}},
			results: []bench.Result{result("touch/one-thread", "ns/page", memfdDirect, 2400)},
			want: []string{"In short. What secret memory costs wasn’t measured here: secret+bridge: no /dev/offmap. The run was stopped before its end. " +
				"This host is emulated (TCG): its times can be compared with one another, and say nothing of caches, TLBs or bandwidth."},
		},
		{
			name: "refused",
			results: []bench.Result{
				{Name: "stream/read", Subject: secretBridge, Unit: "B/s", Accel: "kvm", Status: bench.Refused, Reason: "the guest was emulated"},
			},
			want: []string{"In short. What secret memory costs wasn’t measured here: the guest was emulated."},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.accel == "" {
				tt.accel = "kvm"
			}
			for i := range tt.results {
				tt.results[i].Accel = tt.accel
			}
			s := read(t, "bench.json", bench.Document{
				Schema: bench.Schema, Host: bench.Host{Host: probe.Host{Kernel: "6.18.0", Accel: tt.accel}},
				Partial: tt.partial, Results: tt.results, Unavailable: tt.missing,
			})
			var got []string
			for _, h := range New("", []*Source{s}).summary() {
				for _, p := range h.Parts {
					got = append(got, p.Topic+". "+p.Text)
				}
			}
			if g, w := strings.Join(got, "\n"), strings.Join(tt.want, "\n"); g != w {
				t.Errorf("got:\n%s\nwant:\n%s", g, w)
			}
		})
	}
}

// TestSummaryOfTheRest holds what it says of the other documents.
func TestSummaryOfTheRest(t *testing.T) {
	tests := []struct{ file, doc, want string }{
		{"audit.json", `{"schema":"offmap/audit/v1","host":{"kernel":"k","accel":"kvm"},"backend":"secret","attach":"bridge","matrix":[
			{"backend":"anon","attach":"direct","avenues":[{"name":"direct-map","verdict":"exposed"}]},
			{"backend":"secret","attach":"bridge","avenues":[{"name":"direct-map","verdict":"blocked"},{"name":"fd-theft","verdict":"exposed","owner":true},{"name":"ksm","verdict":"inconclusive"},{"name":"swap","verdict":"skipped"}]}]}`,
			"4 attacks on a guest in secret+bridge memory: 1 blocked, none exposed it to the host; 1 in the owner's own name did, which nothing keeps out (fd-theft); 1 inconclusive; 1 not made, since this host lacks what they take."},
		{"audit.json", `{"schema":"offmap/audit/v1","host":{"kernel":"k","accel":"kvm"},"backend":"memfd","attach":"direct","matrix":[
			{"backend":"memfd","attach":"direct","avenues":[{"name":"direct-map","verdict":"exposed"}]}]}`,
			"1 attack on a guest in memfd+direct memory: 0 blocked, 1 exposed it (direct-map)."},
		{"limits.json", `{"schema":"offmap/limits/v1","host":{"kernel":"k","accel":"kvm"},"limits":[{"id":"a","holds":true},{"id":"b","holds":false},{"id":"c","holds":null}]}`,
			"Of 3 known limits 1 hold, 1 don't hold on this kernel (b), and 1 couldn't be checked."},
		{"run.json", `{"schema":"offmap/run/v1","host":{"kernel":"k","accel":"kvm"},"backend":"secret","attach":"window","memory_bytes":536870912,"populated_bytes":104857600,"exposed_bytes_peak":33554432,"to_userland_ms":812}`,
			"A guest with 512 MiB of RAM in secret+window memory had at most 32 MiB of it exposed to the host, of 100 MiB that had memory in the end; its userland ran after 812 ms."},
	}
	for _, tt := range tests {
		s, err := Read(tt.file, strings.NewReader(tt.doc))
		if err != nil {
			t.Fatal(err)
		}
		got := New("", []*Source{s}).summary()
		if len(got) != 2 || got[0].Parts[0].Text != tt.want || !strings.HasPrefix(got[1].Parts[0].Text, "Nothing here says what secret memory costs") {
			t.Errorf("%s: got %+v, want %q and that no cost is known", tt.file, got, tt.want)
		}
	}
}
