package bench

import (
	"errors"
	"math"
	"os/exec"
	"slices"
	"testing"

	"offmap/internal/bench/floor"
	"offmap/internal/probe"
	"offmap/kvm"
	"offmap/memory/memtest"
)

// testEnv is this host's, with the C floor where there is a compiler.
func testEnv(t *testing.T) *Env {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
	e := &Env{Host: Host{Host: probe.ThisHost()}, Quick: true}
	if _, err := exec.LookPath("cc"); err == nil {
		if e.Floor, err = floor.Build(t.Context(), t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// allPairs are all subjects there could be, whether they work here or not.
func allPairs() []Subject {
	var s []Subject
	for _, p := range probe.Pairs() {
		s = append(s, Subject{Backend: p.Backend, Attach: p.Attach})
	}
	return s
}

// TestHostScenarios takes a sample of each subject of the scenarios of the
// groups here: it is positive figures in the range that the unit allows, or an
// error that says that this host lacks something; and it leaves nothing behind.
func TestHostScenarios(t *testing.T) {
	e := testEnv(t)
	for _, sc := range slices.Concat(populateScenarios(), exitScenarios()) {
		measured := 0
		for _, s := range sc.Subjects(e, allPairs()) {
			t.Run(sc.Name+"/"+s.String(), func(t *testing.T) {
				leaks := memtest.Leaks(t)
				values, err := sc.Sample(t.Context(), e, s)
				leaks()
				if errors.Is(err, ErrCannot) {
					t.Skipf("SKIPPED: %v", err)
				}
				if err != nil || len(values) != len(sc.Metrics) {
					t.Fatalf("%v, %v; want %d values", values, err, len(sc.Metrics))
				}
				measured++
				for i, v := range values {
					plausible(t, sc.Metrics[i], v)
				}
				t.Logf("%s %s %.0f", sc.Name, s, values)
			})
		}
		if measured < 2 {
			t.Errorf("%s was measured for %d subjects", sc.Name, measured)
		}
	}
}

// plausible fails the test for a value that is no time or size at all. NaN
// stands for a metric that the subject hasn't got.
func plausible(t *testing.T, m Metric, v float64) {
	t.Helper()
	low, high := 1.0, 10e9
	switch m.Unit {
	case "ns/op":
		low = 100 // less than any system call
	case "ns/page":
		low = 1
	}
	if !math.IsNaN(v) && (v < low || v > high) {
		t.Errorf("%s: %g %s isn't plausible", m.Name, v, m.Unit)
	}
}
