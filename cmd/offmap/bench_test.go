package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/probe"
	"offmap/internal/render/table"
	"offmap/memory"
	"offmap/memory/attach"
)

// fakeBench is the program with scenarios that measure nothing and take no time, for
// the scripts.
func fakeBench() {
	pairs := func(_ *bench.Env, working []bench.Subject) []bench.Subject { return working }
	benchScenarios = func() []bench.Scenario {
		return []bench.Scenario{{
			Name: "noise", About: "random figures, dearer in secret memory",
			Metrics: []bench.Metric{
				{Name: "time", Unit: "ns/op"},
				{Name: "rate/4KiB", Unit: "B/s", More: true, Curve: "working set", X: 4096, XUnit: "B"},
				{Name: "rate/1MiB", Unit: "B/s", More: true, Curve: "working set", X: 1 << 20, XUnit: "B"},
			},
			Subjects: func(_ *bench.Env, working []bench.Subject) []bench.Subject {
				return append([]bench.Subject{{Peer: bench.C}}, working...)
			},
			Sample: func(_ context.Context, _ *bench.Env, s bench.Subject) ([]float64, error) {
				t := 1234 + 10*rand.NormFloat64()
				if s.Backend == memory.Secret {
					t *= 2
				}
				return []float64{t, 1e13 / t, math.NaN()}, nil
			},
		}, {
			Name: "emulated", About: "a guest that is emulated", Metrics: []bench.Metric{{Name: "time", Unit: "sec"}}, Subjects: pairs,
			Sample: func(context.Context, *bench.Env, bench.Subject) ([]float64, error) { return nil, bench.ErrEmulated },
		}, {
			Name: "fails", About: "fails for memfd", Metrics: []bench.Metric{{Name: "time", Unit: "sec"}}, Subjects: pairs,
			Sample: func(_ context.Context, _ *bench.Env, s bench.Subject) ([]float64, error) {
				if s == (bench.Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}) {
					return nil, errors.New("out of luck")
				}
				return []float64{1}, nil
			},
		}, {
			Name: "slow", About: "sleeps for ten minutes, the third time", Slow: true, Metrics: []bench.Metric{{Name: "time", Unit: "sec"}},
			Subjects: func(_ *bench.Env, working []bench.Subject) []bench.Subject { return working[:1] },
			Sample: func() func(context.Context, *bench.Env, bench.Subject) ([]float64, error) {
				n := 0
				return func(ctx context.Context, _ *bench.Env, _ bench.Subject) ([]float64, error) {
					if n++; n < 3 {
						return []float64{1}, nil
					}
					fmt.Fprintln(os.Stderr, "asleep")
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(10 * time.Minute):
						return []float64{2}, nil
					}
				}
			}(),
		}}
	}
	os.Exit(Main(os.Args[1:]))
}

// TestBenchInterrupted ends a run by Ctrl-C. The run prints what it has measured, says
// that it is partial, and leaves nothing behind.
func TestBenchInterrupted(t *testing.T) {
	needKVM(t)
	tmp := t.TempDir()
	cmd := exec.Command("offmapfake", "bench", "--json", "--only", "noise,slow,fails", "--skip", "fails", "--backend", "anon")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // for a test that fails
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if lines.Text() == "asleep" {
			cmd.Process.Signal(os.Interrupt)
		}
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(said.String(), "stopped by signal: interrupt") {
		t.Errorf("exit code %d\n%s", code, said.String())
	}
	doc, err := bench.Read(&stdout)
	if err != nil {
		t.Fatal(err)
	}
	if !doc.Partial {
		t.Error("not marked as partial")
	}
	got := map[string]bench.Result{}
	for _, r := range doc.Results {
		got[r.Name+" "+r.Subject.String()] = r
	}
	if r := got["noise/time anon+direct"]; r.Status != bench.Measured || len(r.Values) != defaultRounds {
		t.Errorf("measured before: %+v", r)
	}
	if r := got["slow/time anon+direct"]; r.Status != bench.Partial || len(r.Values) != 1 || !strings.Contains(r.Reason, "1 of 10 values") {
		t.Errorf("being measured: %+v", r)
	}
	if left, err := os.ReadDir(tmp); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBenchTable checks that lines keep to the width, that each metric has a line, and
// how figures are written.
func TestBenchTable(t *testing.T) {
	result := func(name string, b memory.Backend, median float64, change func(*bench.Result)) bench.Result {
		r := bench.Result{
			Name: name, Subject: bench.Subject{Pair: attach.Pair{Backend: b, Attach: attach.Direct}}, Unit: "ns/op", Accel: "tcg", Status: bench.Measured,
			Values: []float64{median}, Median: median, Low: median * 0.9, High: median * 1.02, Confidence: 0.97,
		}
		change(&r)
		return r
	}
	as := func(verdict string, ratio float64) func(*bench.Result) {
		return func(r *bench.Result) {
			r.Against = &bench.Comparison{Subject: "memfd+direct", Ratio: ratio, Verdict: verdict}
		}
	}
	doc := &bench.Document{Host: bench.Host{Host: probe.Host{Kernel: "9.9", KVM: "svm", Accel: "tcg", CPUs: 2}}, Partial: true}
	doc.Results = []bench.Result{
		result("x/a", memory.Memfd, 1234, func(*bench.Result) {}),
		result("x/a", memory.Anon, 1300, as(bench.NoDifference, 1.05)),
		result("x/a", memory.Hugetlb, 2468, as(bench.Worse, 2)),
		result("x/a", memory.Reserved, 12340, as(bench.Worse, 10)),
		result("x/a", memory.GuestMemfd, 1234000, as(bench.Worse, 1000)),
		result("x/a", memory.Secret, 0, func(r *bench.Result) {
			r.Status, r.Values, r.Reason = bench.Refused, nil, strings.Repeat("because it is so ", 10)
		}),
		result("x/b", memory.Memfd, 5, func(r *bench.Result) { r.Confidence, r.Status, r.Reason = 0, bench.Partial, "1 of 10 values: stopped" }),
		result("x/b", memory.Anon, 0, func(*bench.Result) {}),
	}
	for _, width := range []int{40, 80, 100} {
		var b strings.Builder
		if err := printBenchTable(&b, doc, width); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		flat := table.OneLine(text)
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("width %d: %d characters: %s", width, n, line)
			}
		}
		for _, want := range []string{
			"PARTIAL", "under TCG: x", "1.234 ±10%", "1.300 ±10% ~", "2.468 ±10% 2.00×", "1234 ±10% 1000×",
			"5.000 (n=1)", "refused", "1 of 10 values",
		} {
			if !strings.Contains(flat, want) {
				t.Errorf("width %d: no %q in\n%s", width, want, text)
			}
		}
		if n := strings.Count(text, "guest-memfd+direct"); n != 1 {
			t.Errorf("width %d: a subject is there %d times\n%s", width, n, text)
		}
		if width == 100 {
			t.Logf("\n%s", text)
		}
	}
}
