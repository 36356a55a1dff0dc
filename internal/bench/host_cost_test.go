package bench

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
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

// TestCost runs the program and holds that its own memory is more than nothing
// and less than with the guest's, which it has all touched; and that a backend
// that can't be had and an end from outside are told for what they are.
func TestCost(t *testing.T) {
	testEnv(t)
	program := buildProgram(t)
	leaks := memtest.Leaks(t)
	defer leaks()
	ordinary := Subject{Backend: memory.Memfd, Attach: attach.Direct}
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
	if _, err := sampleCost(t.Context(), program, Subject{Backend: memory.Secret, Attach: attach.Direct}); !errors.Is(err, ErrCannot) {
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

func TestOwnRSS(t *testing.T) {
	const text = `00400000-00801000 r-xp 00000000 fe:00 9995688                 /usr/bin/offmap
Size:               4100 kB
KernelPageSize:        4 kB
Rss:                2000 kB
Pss:                2000 kB
VmFlags: rd ex mr mw me sd
7f719c5a0000-7f719e5a0000 rw-s 00000000 00:01 25229           /memfd:offmap-ram (deleted)
Size:              32768 kB
Rss:               32768 kB
7f71eb042000-7f71eb043000 rw-p 00000000 00:00 0
Size:                  4 kB
Rss:                   4 kB
`
	if got, err := ownRSS(strings.NewReader(text), 32<<20); err != nil || got != 2004<<10 {
		t.Errorf("%d, %v; want %d", got, err, 2004<<10)
	}
	if got, err := ownRSS(strings.NewReader(text), 64<<20); err != nil || got != (2004+32768)<<10 {
		t.Errorf("with a larger guest: %d, %v", got, err)
	}
	if _, err := ownRSS(strings.NewReader("Rss: many kB\n"), 1); err == nil {
		t.Error("no error for a number that is none")
	}
}
