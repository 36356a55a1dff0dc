package exposure

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"offmap/memory"
	"offmap/memory/exposure/inject"
)

// The kernel doesn't say what it leaves out of a core, so this isn't
// testAttack.
func TestCoreDump(t *testing.T) {
	for _, b := range []memory.Backend{memory.Anon, memory.Memfd, memory.Secret} {
		t.Run(string(b), func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			target := startVictim(t, b)
			f, err := coreDump.Attack(t.Context(), target)
			if errors.Is(err, ErrUnavailable) {
				t.Skipf("SKIPPED: %v", err)
			}
			t.Logf("%+v, %v", f, err)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if b.Exposed() {
				want = victimPages
			}
			if f.Pages != want || f.Bytes < victimRAM || f.Errno != 0 {
				t.Errorf("found in %d pages of %d bytes, errno %v; want %d pages", f.Pages, f.Bytes, f.Errno, want)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// A core that is cut off says nothing of what isn't in it.
func TestCoreDumpCutOff(t *testing.T) {
	if err := checkCorePattern(); err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	dir := t.TempDir()
	target := startVictim(t, memory.Anon)
	if _, err := target.inject(t.Context(), func(th *inject.Thread) (Finding, error) {
		return Finding{}, target.expose(th, dir)
	}); err != nil {
		t.Fatal(err)
	}
	if err := target.abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	core, err := coreIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	if f, err := target.searchCore(t.Context(), core); err != nil || f.Pages != victimPages {
		t.Fatalf("the whole core: %+v, %v", f, err)
	}
	info, err := core.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{info.Size() - 1, info.Size() / 2, 0} {
		if err := core.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if f, err := target.searchCore(t.Context(), core); err == nil {
			t.Errorf("cut off at %d bytes of %d: %+v", size, info.Size(), f)
		}
	}
	if _, err := coreIn(t.TempDir()); err == nil {
		t.Error("a core where there is none")
	}
}

// What a core has held isn't left to whoever gets its pages.
func TestWipe(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "core"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := make([]byte, 3<<20+5*pageSize)
	for _, off := range []int64{0, 2 << 20, 3<<20 + 4*pageSize} {
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, pageSize), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := wipe(f); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, not all zero or not %d: %v", len(got), len(want), err)
	}
}
