// Package memtest has what tests of guest RAM share: the conformance suite that
// every memory.Guest passes, and a check for leaks.
package memtest

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"offmap/memory"
)

// Layout has a hole in it, and two regions that touch.
func Layout(t testing.TB) memory.Layout {
	t.Helper()
	l, err := memory.LayoutOf(memory.Region{Start: 0, Size: 8 * memory.PageSize},
		memory.Region{Start: 0x100000, Size: 4 * memory.PageSize},
		memory.Region{Start: 0x104000, Size: memory.PageSize})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Guest tests fresh RAM of Layout. populated returns how many bytes of it are
// populated. The first use of a page populates it; page is its size in bytes, or 0
// if all of RAM is populated from the start.
func Guest(t *testing.T, g memory.Guest, populated func() (uint64, error), page uint64) {
	t.Helper()
	size := g.Layout().Size()
	var fresh, least uint64 = 0, 2 * memory.PageSize // two pages will be written,
	most := least + memory.PageSize                  // and one read, which may populate it
	switch {
	case page == 0:
		fresh, least, most = size, size, size
	case page > size: // all of RAM is in one
		least, most = size, size
	}
	if n, err := populated(); err != nil || n != fresh {
		t.Errorf("%d bytes of fresh RAM are populated, %v; want %d", n, err, fresh)
	}
	first := make([]byte, memory.PageSize)
	if _, err := g.ReadAt(first, 0); err != nil || !bytes.Equal(first, make([]byte, memory.PageSize)) {
		t.Errorf("fresh RAM doesn't read as zeros (%v)", err)
	}

	want := []byte("across the seam of two regions")
	if n, err := g.WriteAt(want, 0x104000-10); n != len(want) || err != nil {
		t.Fatalf("WriteAt over a seam = %d, %v", n, err)
	}
	got := make([]byte, len(want))
	if _, err := g.ReadAt(got, 0x104000-10); err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAt over a seam = %q, %v", got, err)
	}
	if n, err := populated(); err != nil || n < least || n > most {
		t.Errorf("%d bytes populated after a read and two pages written, %v; want %d to %d", n, err, least, most)
	}
	for _, off := range []memory.GPA{1<<64 - 1, 8*memory.PageSize - 1, 8 * memory.PageSize, 0x105000, 1 << 62} {
		before := slices.Clone(got)
		if n, err := g.ReadAt(got, off); n != 0 || !errors.Is(err, memory.ErrHole) {
			t.Errorf("ReadAt(0x%x) = %d, %v; want ErrHole", off, n, err)
		}
		if !bytes.Equal(got, before) {
			t.Errorf("a refused ReadAt(0x%x) copied something", off)
		}
		if n, err := g.WriteAt(got, off); n != 0 || !errors.Is(err, memory.ErrHole) {
			t.Errorf("WriteAt(0x%x) = %d, %v; want ErrHole", off, n, err)
		}
	}
	Vectors(t, g)
}
