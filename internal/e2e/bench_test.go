package e2e

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
)

// benchDocument reads what offmap bench printed.
func benchDocument(t *testing.T, stdout string) *bench.Document {
	t.Helper()
	doc, err := bench.Read(strings.NewReader(stdout))
	if err != nil {
		t.Fatalf("%v:\n%s", err, stdout)
	}
	return doc
}

// TestBench measures every pair that works in the lab, and holds that what says
// nothing under TCG is refused.
func TestBench(t *testing.T) {
	needInside(t)
	oneIsEnough(t, oldest)
	only := []string{"create"} // which is for all
	var native []string
	for _, sc := range bench.Scenarios() {
		if sc.Native && !sc.Slow {
			native = append(native, sc.Name)
		}
	}
	if len(native) == 0 {
		t.Error("no scenario is for hardware only")
	}
	r := offmapRunFor(t, 2*patience, "bench", "--quick", "--json", "--only", strings.Join(append(only, native...), ","))
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.stderr)
	}
	doc := benchDocument(t, r.stdout)
	t.Logf("%v for %d results", r.took, len(doc.Results))
	if doc.Host.Accel != "tcg" || doc.Host.KVM != "svm" || !doc.Quick || doc.Partial {
		t.Errorf("%+v, quick %v, partial %v", doc.Host, doc.Quick, doc.Partial)
	}
	for _, p := range attach.Pairs() {
		works := probe.Try(t.Context(), p, "").Works
		measured := slices.ContainsFunc(doc.Results, func(r bench.Result) bool {
			return r.Name == "create/make" && r.Pair == p && len(r.Values) > 0
		})
		missing := slices.ContainsFunc(doc.Unavailable, func(u bench.Unavailable) bool {
			return u.Pair == p && u.Reason != ""
		})
		if works != measured || works == missing {
			t.Errorf("%s works: %v; measured: %v, said to be missing: %v", p, works, measured, missing)
		}
		if p.Backend == memory.Secret && works != (p.Attach != attach.Direct) {
			t.Errorf("secret+%s works: %v", p.Attach, works)
		}
	}
	for _, name := range native {
		n := 0
		for _, r := range doc.Results {
			if !strings.HasPrefix(r.Name, name+"/") {
				continue
			}
			n++
			if r.Status != bench.Refused || !strings.Contains(r.Reason, "accel tcg") {
				t.Errorf("%s of %s under TCG: %s (%s)", r.Name, r.Subject, r.Status, r.Reason)
			}
		}
		if n == 0 {
			t.Errorf("nothing is said of %s", name)
		}
	}
}

// TestBenchAgain holds that a second run agrees with the first within its own
// intervals; internal/measure/bench's TestSecondRun says why there are three tries.
func TestBenchAgain(t *testing.T) {
	needInside(t)
	oneIsEnough(t, oldest)
	run := func() *bench.Document {
		r := offmapRunFor(t, 2*patience, "bench", "--json", "--only", "create", "--backend", "anon,memfd,secret+bridge")
		if r.code != 0 {
			t.Fatalf("exit code %d\n%s", r.code, r.stderr)
		}
		return benchDocument(t, r.stdout)
	}
	for range 3 {
		compared, disagree := bench.Agree(run(), run())
		t.Logf("%d of %d disagree: %v", len(disagree), compared, disagree)
		if compared < 6 {
			t.Fatalf("%d results to compare", compared)
		}
		if 2*len(disagree) <= compared {
			return
		}
	}
	t.Error("a second run differs by more than the first said that it might")
}

// TestBenchRefuses holds what is said of what can't be measured as asked.
func TestBenchRefuses(t *testing.T) {
	needInside(t)
	oneIsEnough(t, oldest)
	r := offmapRun(t, "bench", "--only", "nonsense")
	if r.code != 2 || !strings.Contains(r.stderr, `unknown scenario "nonsense": have `) {
		t.Errorf("unknown scenario: exit code %d\n%s", r.code, r.stderr)
	}
	r = offmapRun(t, "bench", "--only", "create", "--report", "/proc/none")
	if r.code != 1 || !strings.Contains(r.stderr, "report: open /proc/none") || strings.Contains(r.stderr, "bench: create") {
		t.Errorf("a report that can't be written: exit code %d\n%s", r.code, r.stderr)
	}
	r = offmapRun(t, "bench", "--only", "create", "--count", "1", "--json", "--backend", "secret+direct,memfd")
	doc := benchDocument(t, r.stdout)
	if r.code != 3 || !strings.Contains(r.stderr, "not secret+direct: ") || len(doc.Unavailable) == 0 || !doc.Unavailable[0].Asked {
		t.Errorf("a pair that doesn't work: exit code %d, %+v\n%s", r.code, doc.Unavailable, r.stderr)
	}
	if len(doc.Results) == 0 || doc.Results[0].Backend != memory.Memfd || len(doc.Results[0].Values) != 1 {
		t.Errorf("the other one: %+v", doc.Results)
	}
}

// TestBenchInterrupted ends a run midway.
func TestBenchInterrupted(t *testing.T) {
	needInside(t)
	oneIsEnough(t, oldest)
	cmd := command(t, patience, "./offmap", "bench", "--only", "create", "--count", "100000", "--json", "--backend", "memfd,secret+window")
	var stdout bytes.Buffer
	var stderr syncBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for start := time.Now(); !strings.Contains(stderr.String(), "bench: create"); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("it hasn't begun:\n%s", stderr.String())
		}
	}
	time.Sleep(5 * time.Second) // for a few rounds
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d\n%s", code, stderr.String())
	}
	doc := benchDocument(t, stdout.String())
	if !doc.Partial || len(doc.Results) == 0 {
		t.Errorf("partial %v, %d results\n%s", doc.Partial, len(doc.Results), stderr.String())
	}
	for _, r := range doc.Results {
		if r.Status != bench.Partial || len(r.Values) == 0 || !strings.Contains(r.Reason, "stopped") {
			t.Errorf("%s of %s: %s (%s), %d values", r.Name, r.Subject, r.Status, r.Reason, len(r.Values))
		}
	}
	if left := scrubbers(0); len(left) != 0 {
		t.Errorf("scrubbers are left: %v", left)
	}
}
