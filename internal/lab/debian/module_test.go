package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"offmap/internal/kernel"
)

// TestBuildModuleFor builds in a tree whose makefile copies the source instead of
// compiling it.
func TestBuildModuleFor(t *testing.T) {
	cache, dir := t.TempDir(), t.TempDir()
	t.Setenv("OFFMAP_CACHE", cache)
	tree := kernel.Tree{Dir: dir, Release: "6.12.0-small"}
	makefile := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "Makefile"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, source := range []string{"first", "second"} { // nothing old is kept
		makefile("modules:\n\tcp $(M)/main.c $(M)/offmap.ko\n")
		path, err := BuildModuleFor(t.Context(), tree, fstest.MapFS{"main.c": {Data: []byte(source)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ko, err := os.ReadFile(path); string(ko) != source {
			t.Errorf("%s: %q, %v, want %q", path, ko, err, source)
		}
	}
	makefile("modules:\n\techo cc is missing >&2; false\n")
	_, err := BuildModuleFor(t.Context(), tree, fstest.MapFS{"main.c": {}}, nil)
	if err == nil || !strings.Contains(err.Error(), "cc is missing") || !strings.Contains(err.Error(), "6.12.0-small") {
		t.Errorf("error %v, want what make said, and the release", err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "trees", "*", "build-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
