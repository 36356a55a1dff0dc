package report

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/exposuremap"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

// The documents made here are of offmap bench's own runner, with scenarios that
// draw their values instead of measuring them.

var (
	memfdDirect    = bench.Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}
	anonDirect     = bench.Subject{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}}
	secretBridge   = bench.Subject{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}}
	secretWindow   = bench.Subject{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}}
	baselineMemfd  = bench.Subject{Pair: attach.Pair{Backend: memory.Memfd}, Peer: bench.C}
	baselineSecret = bench.Subject{Pair: attach.Pair{Backend: memory.Secret}, Peer: bench.C}
	gokvm          = bench.Subject{Peer: bench.Gokvm}
	microVM        = bench.Subject{Peer: bench.MicroVM}
)

// testHost is a host with a factor on all its times.
type testHost struct {
	kernel, kvm, accel string
	slow               float64
}

var (
	native = testHost{"6.18.44", "pvm", "pvm", 1}
	lab    = []testHost{
		{"6.1.0-56-cloud-amd64", "svm", "tcg", 21},
		{"6.12.117+deb13-cloud-amd64", "svm", "tcg", 24},
		{"7.3.4+deb13-cloud-amd64", "svm", "tcg", 26},
	}
)

// drawn is a metric's median by subject, and how noisy it is: a share of it.
type drawn struct {
	metric bench.Metric
	median map[bench.Subject]float64
	noise  float64
}

func scenario(name string, isNative bool, seed uint64, slow float64, metrics ...drawn) bench.Scenario {
	r := rand.New(rand.NewPCG(seed, 5))
	s := bench.Scenario{Name: name, About: "made up", Native: isNative}
	for _, d := range metrics {
		s.Metrics = append(s.Metrics, d.metric)
	}
	s.Subjects = func(*bench.Env, []bench.Subject) (list []bench.Subject) {
		for _, one := range []bench.Subject{memfdDirect, anonDirect, secretBridge, secretWindow, baselineMemfd, baselineSecret, gokvm, microVM} {
			if _, ok := metrics[0].median[one]; ok {
				list = append(list, one)
			}
		}
		return list
	}
	s.Sample = func(_ context.Context, _ *bench.Env, one bench.Subject) (values []float64, err error) {
		for _, d := range metrics {
			v, ok := d.median[one]
			if !ok {
				v = math.NaN()
			}
			v *= 1 + d.noise*math.Abs(r.NormFloat64())
			if d.metric.More {
				v /= slow
			} else {
				v *= slow
			}
			values = append(values, v)
		}
		return values, nil
	}
	return s
}

// benchDocument runs the scenarios on a machine.
func benchDocument(t testing.TB, m testHost) *bench.Document {
	t.Helper()
	of := func(memfd, anon, bridge, window float64) map[bench.Subject]float64 {
		return map[bench.Subject]float64{memfdDirect: memfd, anonDirect: anon, secretBridge: bridge, secretWindow: window}
	}
	with := func(m map[bench.Subject]float64, s bench.Subject, v float64) map[bench.Subject]float64 {
		m[s] = v
		return m
	}
	var chase []drawn
	for kib := 4.0; kib <= 1<<20; kib *= 4 {
		ns := 1.4 + 3*math.Pow(kib/512, 0.45) + 70/(1+math.Exp(-math.Log2(kib/16384)))
		tlb := 1 + 0.25/(1+math.Exp(-math.Log2(kib/4096)))
		chase = append(chase, drawn{bench.Metric{
			Name: "chase/" + strings.ReplaceAll(size(uint64(kib)<<10), " ", ""), Unit: "ns/op", Curve: "working set", X: kib * 1024, XUnit: "B",
		}, of(ns, ns*0.98, ns*tlb, ns*(tlb+kib/(1<<19))), 0.03})
	}
	var window []drawn
	for part := 1.0; part <= 64; part *= 2 {
		window = append(window, drawn{bench.Metric{
			Name: fmt.Sprintf("fault/%gMiB", part*4), Unit: "ns/op", Curve: "window", X: part * 4 * (1 << 20), XUnit: "B",
		}, map[bench.Subject]float64{secretWindow: 12e3 + 9e5/part/part}, 0.08})
	}
	scenarios := []bench.Scenario{
		scenario("populate", false, 1, m.slow,
			drawn{bench.Metric{Name: "one-thread", Unit: "ns/page"}, with(with(of(2400, 2050, 14900, 15300), baselineMemfd, 2350), baselineSecret, 14600), 0.06},
			drawn{bench.Metric{Name: "all-threads", Unit: "ns/page"}, with(with(of(1310, 1200, 9800, 9900), baselineMemfd, 1290), baselineSecret, 9700), 0.15}),
		scenario("stream", true, 2, 1,
			drawn{bench.Metric{Name: "read", Unit: "B/s", More: true}, with(of(12.4e9, 12.5e9, 12.3e9, 12.2e9), baselineMemfd, 12.6e9), 0.02},
			drawn{bench.Metric{Name: "write", Unit: "B/s", More: true}, with(of(9.1e9, 9.2e9, 9.0e9, 7.2e9), baselineMemfd, 9.2e9), 0.02}),
		scenario("latency", true, 3, 1, chase...),
		scenario("window", false, 4, m.slow, window...),
		scenario("exits", false, 5, m.slow,
			drawn{bench.Metric{Name: "port-write", Unit: "ns/op"}, with(with(with(of(1510, 1500, 1520, 1530), baselineMemfd, 1480), gokvm, 2300), microVM, 4100), 0.03}),
		scenario("boot", false, 6, m.slow/10,
			drawn{bench.Metric{Name: "to-userland", Unit: "sec"}, with(of(0.81, 0.74, 0.95, 1.7), gokvm, 1.1), 0.05}),
	}
	doc := bench.Plan{
		Env:       &bench.Env{Host: bench.Host{Host: probe.Host{Kernel: m.kernel, KVM: m.kvm, Accel: m.accel, CPUs: 2, Model: "AMD EPYC"}, THP: "madvise"}},
		Scenarios: scenarios, Working: []bench.Subject{memfdDirect, anonDirect, secretBridge, secretWindow}, Rounds: 10,
	}.Run(t.Context())
	doc.Started, doc.Seconds = "2026-11-20T10:00:00Z", 481
	doc.Args = []string{"bench", "--count", "10", "--json"}
	doc.Unavailable = []bench.Unavailable{{Subject: bench.Subject{Pair: attach.Pair{Backend: memory.Hugetlb, Attach: attach.Direct}}, Reason: "no huge pages are free"}}
	return doc
}

// traceDocument is a guest that boots and then works in a few places.
func traceDocument(m testHost, b memory.Backend, a attach.Method) *exposuremap.Trace {
	const cells, per = 4096, 32 // 512 MiB
	r := rand.New(rand.NewPCG(9, 9))
	userland := 620.0
	t := &exposuremap.Trace{
		Schema: exposuremap.Schema, Host: probe.Host{Kernel: m.kernel, KVM: m.kvm, Accel: m.accel, CPUs: 2},
		Started: "2026-11-20T10:00:00Z", Guest: "debian:6.1", CPUs: 1, Pair: attach.Pair{Backend: b, Attach: a},
		Memory: cells * per * memory.PageSize, CellBytes: per * memory.PageSize, Interval: 10, ToUserland: &userland,
	}
	window := 0
	if a == attach.ViaWindow {
		window = cells / 16
		t.Window = uint64(window) * t.CellBytes
	}
	touched := make([]bool, cells)
	var inWindow []int
	touch := func(cell int) {
		touched[cell] = true
		if window > 0 {
			if len(inWindow) == window {
				inWindow = inWindow[1:]
			}
			inWindow = append(inWindow, cell)
		}
	}
	var peak uint64
	for i := range 200 {
		for k := range 14 {
			switch {
			case i < 5: // before the guest starts
			case i < 60:
				touch((i*9 + k + r.IntN(3)) % cells)
			case r.IntN(5) == 0:
				touch(cells - 1 - r.IntN(220))
			default:
				touch(int(math.Abs(r.NormFloat64())*260) % cells)
			}
		}
		s := exposuremap.Sample{MS: float64(i) * 10, Faults: uint64(i * 10), Exits: uint64(i * 100), Map: make([]exposuremap.Cell, cells)}
		exposed := map[int]bool{}
		for _, c := range inWindow {
			exposed[c] = true
		}
		for c := range cells {
			switch {
			case !touched[c]:
				s.Untouched += t.CellBytes
			case exposed[c]:
				s.InWindow += t.CellBytes
				s.Map[c] = exposuremap.Full
			case b.Exposed():
				s.Ordinary += t.CellBytes
				s.Map[c] = exposuremap.Full
			default:
				s.Hidden += t.CellBytes
				s.Map[c] = exposuremap.Full << 4
			}
		}
		peak = max(peak, s.Exposed())
		s.ExposedPeak = peak
		t.Samples = append(t.Samples, s)
	}
	return t
}

// read puts a document through its reader, as a file would be.
func read(t testing.TB, file string, doc any) *Source {
	t.Helper()
	var b bytes.Buffer
	var err error
	if trace, ok := doc.(*exposuremap.Trace); ok {
		err = trace.Write(&b)
	} else {
		err = json.NewEncoder(&b).Encode(doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read(file, &b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
