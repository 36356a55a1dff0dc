package memtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Leaks counts what this process holds: descriptors, mappings of guest RAM,
// children, goroutines. The function that it returns fails the test if there
// is more of anything after 10 seconds.
func Leaks(t *testing.T) (check func()) {
	t.Helper()
	before := held(t)
	return func() {
		t.Helper()
		after := held(t)
		for range 1000 { // a goroutine may be on its last instructions
			if !more(after, before) {
				return
			}
			time.Sleep(10 * time.Millisecond)
			after = held(t)
		}
		t.Errorf("descriptors, mappings, children, goroutines: %v before, %v after", before, after)
	}
}

// more reports whether a counts more of anything than b. Less is no leak: an
// earlier test may still have been ending at the first count.
func more(a, b [4]int) bool {
	for i := range a {
		if a[i] > b[i] {
			return true
		}
	}
	return false
}

func held(t *testing.T) (n [4]int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	// A child is its thread's, and any thread may have started it.
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	var children int
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a thread that has ended
			t.Fatal(err)
		}
		children += len(bytes.Fields(b))
	}
	var ram int
	for _, name := range []string{"memfd:offmap-", "secretmem", "kvm-gmem", "/dev/mem"} {
		ram += bytes.Count(maps, []byte(name))
	}
	return [4]int{len(fds), ram, children, runtime.NumGoroutine()}
}
