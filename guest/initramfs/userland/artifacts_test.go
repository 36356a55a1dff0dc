package userland

import (
	"os"
	"path/filepath"
	"testing"
)

// TestCopyTree copies a tree twice, as when one directory serves two runs.
func TestCopyTree(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "a", "gcov")
	if err := os.MkdirAll(filepath.Join(from, "kernel", "sched"), 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	for name, text := range map[string]string{filepath.Join(from, "kernel/sched/core.gcda"): "data", filepath.Join(from, "reset"): "", outside: "kept"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/linux/core.gcno", filepath.Join(from, "kernel/sched/core.gcno")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := copyTree(from, to); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(filepath.Join(to, "kernel/sched/core.gcda")); err != nil || string(data) != "data" {
			t.Errorf("%q, %v", data, err)
		}
		if link, err := os.Readlink(filepath.Join(to, "kernel/sched/core.gcno")); err != nil || link != "/linux/core.gcno" {
			t.Errorf("%q, %v", link, err)
		}
		// A link where a file was is replaced, and not written through.
		if err := os.Remove(filepath.Join(to, "reset")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(to, "reset")); err != nil {
			t.Fatal(err)
		}
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "kept" {
		t.Errorf("%q, %v", data, err)
	}
	if err := copyTree(filepath.Join(from, "none"), to); !os.IsNotExist(err) {
		t.Errorf("nothing there: %v", err)
	}
}
