package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
	"offmap/memory"
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
	home, uid, err := target.coreHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if _, err := target.inject(t.Context(), func(th *inject.Thread) (Finding, error) {
		return Finding{}, target.expose(th, dir)
	}); err != nil {
		t.Fatal(err)
	}
	if err := target.abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	core, err := coreIn(home, uid)
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
}

// What somebody else put in the core's place is neither searched nor wiped.
func TestCoreIn(t *testing.T) {
	uid := uint32(os.Getuid())
	for name, c := range map[string]struct {
		put func(secret, core string) error
		ok  bool
	}{
		"none":     {put: func(_, _ string) error { return nil }},
		"file":     {put: func(_, core string) error { return os.WriteFile(core, nil, 0o600) }, ok: true},
		"symlink":  {put: os.Symlink},
		"hardlink": {put: os.Link},
		"fifo":     {put: func(_, core string) error { return unix.Mkfifo(core, 0o600) }},
		"two": {put: func(_, core string) error {
			return errors.Join(os.WriteFile(core, nil, 0o600), os.WriteFile(core+".2", nil, 0o600))
		}},
		"other user's": {put: func(_, core string) error {
			return errors.Join(os.WriteFile(core, nil, 0o600), os.Chown(core, int(uid)+65534, -1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte("untouched"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			err := c.put(secret, filepath.Join(dir, "core"))
			if errors.Is(err, unix.EPERM) {
				t.Skipf("SKIPPED: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			home, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer home.Close()
			core, err := coreIn(home, uid)
			if err == nil {
				err2 := wipe(core)
				core.Close()
				if !c.ok || err2 != nil {
					t.Errorf("taken for the core, wiped: %v", err2)
				}
			} else if c.ok {
				t.Error(err)
			}
			if got, err := os.ReadFile(secret); err != nil || string(got) != "untouched" {
				t.Errorf("the other file has %q, %v", got, err)
			}
		})
	}
}

// A core is the VMM's and nobody else's, also while it is written.
func TestCoreHome(t *testing.T) {
	dir, err := os.MkdirTemp(t.TempDir(), "") // 0700
	if err != nil {
		t.Fatal(err)
	}
	home, uid, err := Target{PID: os.Getpid()}.coreHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(home.Fd()), &st); err != nil || st.Mode&0o777 != 0o700 || st.Uid != uid || uid != uint32(os.Geteuid()) {
		t.Errorf("mode %#o, user %d of %d, %v", st.Mode, st.Uid, uid, err)
	}
	if got, err := fsUID("Name:\tx\nUid:\t1\t2\t3\t4\n"); err != nil || got != 4 {
		t.Errorf("fsUID is %d, %v", got, err)
	}
	for _, bad := range []string{"", "Uid:\t1\t2\n", "Uid:\t1\t2\t3\tx\n"} {
		if got, err := fsUID(bad); err == nil {
			t.Errorf("fsUID of %q is %d", bad, got)
		}
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
