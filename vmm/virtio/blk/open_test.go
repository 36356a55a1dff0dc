package blk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory/memtest"
)

// TestOpenErrors has images that are no disks. Each error says what to do.
func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	sized := func(name string, n int64) string {
		if err := errors.Join(os.WriteFile(at(name), nil, 0o600), os.Truncate(at(name), n)); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	if err := unix.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		o    Options
		want string
	}{
		{at("missing"), Options{}, "no such file"},
		{dir, Options{}, "a directory"},
		{dir, Options{ReadOnly: true}, "a directory"},
		{at("fifo"), Options{}, "neither a regular file nor a block device"},
		{at("fifo"), Options{ReadOnly: true}, "neither a regular file nor a block device"},
		{"/dev/null", Options{}, "neither a regular file nor a block device"},
		{sized("empty", 0), Options{}, "truncate -s 1G"},
		{sized("odd", 1000), Options{}, "truncate -s %512 FILE adds 24 bytes"},
		{sized("good", 1024), Options{ReadOnly: true, Overlay: true}, "an overlay is for a disk that is written"},
		{at("good"), Options{Cache: "writeback"}, `no cache "writeback"`},
	} {
		leaks := memtest.Leaks(t)
		_, err := Open(c.path, c.o)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s %+v: %v, want %q", c.path, c.o, err, c.want)
		}
		leaks()
	}
	t.Run("no overlay", func(t *testing.T) {
		t.Setenv("TMPDIR", at("missing"))
		defer memtest.Leaks(t)()
		if _, err := Open(at("good"), Options{Overlay: true}); err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
			t.Error(err)
		}
	})
}

// TestOpenWithoutRight has an image that may only be read.
func TestOpenWithoutRight(t *testing.T) {
	for _, err := range []error{unix.EACCES, unix.EROFS, unix.EPERM} {
		path, _ := newImage(t, 512)
		if got := openError(path, true, err); !errors.Is(got, err) || !strings.Contains(got.Error(), ",ro") || !strings.Contains(got.Error(), ",overlay") {
			t.Errorf("%v: %v", err, got)
		}
		if got := openError(path, false, err); got != err {
			t.Errorf("%v, read-only: %v", err, got)
		}
	}
}

// TestLock opens an image twice.
func TestLock(t *testing.T) {
	rw, ro, over := Options{}, Options{ReadOnly: true}, Options{Overlay: true}
	for _, c := range []struct {
		first, second Options
		ok            bool
	}{
		{rw, rw, false}, {rw, ro, false}, {rw, over, false},
		{ro, rw, false}, {ro, ro, true}, {ro, over, true},
		{over, rw, false}, {over, ro, true}, {over, over, true},
	} {
		path, _ := newImage(t, 512)
		one, err := Open(path, c.first)
		if err != nil {
			t.Fatal(err)
		}
		two, err := Open(path, c.second)
		if c.ok != (err == nil) || err != nil && !(errors.Is(err, ErrInUse) && strings.Contains(err.Error(), "another guest")) {
			t.Errorf("%+v, then %+v: %v", c.first, c.second, err)
		}
		if err == nil {
			two.Close()
		}
		if err := one.Close(); err != nil {
			t.Error(err)
		}
		if two, err = Open(path, c.second); err != nil {
			t.Errorf("after Close: %v", err)
			continue
		}
		two.Close()
	}
}
