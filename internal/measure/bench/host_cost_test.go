package bench

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
)

// buildProgram builds offmap.
func buildProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "offmap")
	if out, err := exec.Command("go", "build", "-o", path, "offmap/cmd/offmap").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestCost checks that the program's own memory doesn't include the guest's, all of
// which is used, and the errors for a backend that doesn't work and for a
// cancelled run.
func TestCost(t *testing.T) {
	testEnv(t)
	program := buildProgram(t)
	leaks := memtest.Leaks(t)
	defer leaks()
	ordinary := Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}
	values, err := sampleCost(t.Context(), program, ordinary)
	if err != nil {
		t.Fatal(err)
	}
	elapsed, user, system, rss := values[0], values[1], values[2], values[3]
	if elapsed <= 0 || user+system <= 0 || user+system > 2*elapsed+1 {
		t.Errorf("%v: not the times of a run", values)
	}
	if rss < 1<<20 || rss >= costSize {
		t.Errorf("%.0f bytes are the VMM's own; want at least a MiB, and not the guest's %d", rss, costSize)
	}
	if _, err := sampleCost(t.Context(), program, Subject{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.Direct}}); !errors.Is(err, ErrCannot) {
		t.Errorf("secret+direct: %v; want ErrCannot", err)
	}
	if _, err := sampleCost(t.Context(), "/bin/false", ordinary); err == nil || errors.Is(err, ErrCannot) {
		t.Errorf("a program that fails: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := sampleCost(ctx, program, ordinary); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stopped from outside: %v", err)
	}
}
