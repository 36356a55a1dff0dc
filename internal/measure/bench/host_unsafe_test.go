package bench

import (
	"errors"
	"math"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/internal/measure/bench/baseline"
	"offmap/internal/measure/probe"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
)

// testEnv returns this host's Env, with the C baseline if there is a compiler.
func testEnv(t *testing.T) *Env {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
	e := &Env{Host: Host{Host: probe.ThisHost()}, Quick: true}
	if _, err := exec.LookPath("cc"); err == nil {
		if e.Baseline, err = baseline.Build(t.Context(), t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// workingPairs returns the subjects that this host can run.
func workingPairs(t *testing.T) []Subject {
	t.Helper()
	var s []Subject
	for _, p := range attach.Pairs() {
		if probe.Try(t.Context(), p, "").Works {
			s = append(s, Subject{Pair: p})
		}
	}
	return s
}

// TestHostScenarios takes a sample of each subject of the scenarios without a guest.
// It checks that the values are plausible and that nothing is left behind.
func TestHostScenarios(t *testing.T) {
	e := testEnv(t)
	working := workingPairs(t)
	for _, sc := range slices.Concat(populateScenarios(), directMapScenarios(), neighbourScenarios(), exitScenarios(), diskScenarios(), userfaultScenarios()) {
		t.Run(sc.Name, func(t *testing.T) {
			subjects := sc.Subjects(e, working)
			if len(subjects) == 0 {
				t.Skip("SKIPPED: nothing that it measures works here")
			}
			for _, s := range subjects {
				t.Run(s.String(), func(t *testing.T) {
					leaks := memtest.Leaks(t)
					values, err := sc.Sample(t.Context(), e, s)
					leaks()
					if err != nil || len(values) != len(sc.Metrics) {
						t.Fatalf("%v, %v; want %d values", values, err, len(sc.Metrics))
					}
					for i, v := range values {
						plausible(t, sc.Metrics[i], v)
					}
					t.Logf("%.0f", values)
				})
			}
		})
	}
}

// TestCannot checks the error for what a host lacks, and that nothing is left behind.
// No kernel accepts secret memory directly.
func TestCannot(t *testing.T) {
	e := testEnv(t)
	s := Subject{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.Direct}}
	for _, sc := range slices.Concat(populateScenarios(), exitScenarios(), diskScenarios()) {
		leaks := memtest.Leaks(t)
		if values, err := sc.Sample(t.Context(), e, s); !errors.Is(err, ErrCannot) {
			t.Errorf("%s of %s: %v, %v; want ErrCannot", sc.Name, s, values, err)
		}
		leaks()
	}
}

// TestTouchRefused checks that a page which the kernel can't allocate is an error and
// not a signal. The page here is beyond the end of a file.
func TestTouchRefused(t *testing.T) {
	ram, err := newReadFile(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	mem, err := unix.Mmap(int(ram.Fd()), 0, 2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	at := unsafe.Pointer(unsafe.SliceData(mem))
	if err := touchPages(at, 1<<20, 3); err != nil {
		t.Error(err)
	}
	for off := 0; off < 1<<20; off += memory.PageSize {
		if mem[off] != 1 {
			t.Fatalf("page %d wasn't written", off/memory.PageSize)
		}
	}
	if err := touchPages(at, 2<<20, 2); !errors.Is(err, unix.EFAULT) || !strings.Contains(err.Error(), "page 0 of 256") {
		t.Errorf("past the end of the file: %v", err)
	}
}

// plausible fails the test for a value that can't be a time, a rate or a size. NaN
// stands for a metric that the subject doesn't have.
func plausible(t *testing.T, m Metric, v float64) {
	t.Helper()
	low, high := 1.0, 10e9
	switch m.Unit {
	case "ns/op":
		low = 100 // less than any system call
	case "B/s":
		high = 1e12 // more than a CPU copies from a cache
	case "B":
		low, high = 0, 1<<50 // no page of that size is none of the bytes
	}
	if !math.IsNaN(v) && (v < low || v > high) {
		t.Errorf("%s: %g %s isn't plausible", m.Name, v, m.Unit)
	}
}
