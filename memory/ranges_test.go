package memory

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func TestRangesCut(t *testing.T) {
	all := Ranges{{0x1000, 10}, {0x9000, 0}, {0x3000, 5}}
	for _, c := range []struct {
		n          uint64
		head, tail Ranges
	}{
		{0, nil, all},
		{4, Ranges{{0x1000, 4}}, Ranges{{0x1004, 6}, {0x9000, 0}, {0x3000, 5}}},
		{10, all[:1], all[1:]},
		{12, Ranges{{0x1000, 10}, {0x9000, 0}, {0x3000, 2}}, Ranges{{0x3002, 3}}},
		{15, all, nil},
		{1 << 40, all, nil},
	} {
		head, tail := all.Cut(c.n)
		if !slices.Equal(head, c.head) || !slices.Equal(tail, c.tail) {
			t.Errorf("Cut(%d) = %v, %v; want %v, %v", c.n, head, tail, c.head, c.tail)
		}
	}
	if head, tail := (Ranges{}).Cut(3); len(head) != 0 || len(tail) != 0 {
		t.Errorf("Cut of nothing = %v, %v", head, tail)
	}
}

func TestRangesCheck(t *testing.T) {
	l := splitLayout(t)
	for _, c := range []struct {
		r  Ranges
		ok bool
	}{
		{nil, true},
		{Ranges{{0x103ff0, 32}, {0, 8 * PageSize}}, true},
		{Ranges{{1 << 60, 0}}, true},
		{Ranges{{0, 1}, {8*PageSize - 1, 2}}, false},
		{Ranges{{0x104000, PageSize + 1}}, false},
		{Ranges{{1<<64 - 1, 2}}, false},
		{Ranges{{0, 1<<32 - 1}}, false},
	} {
		if err := c.r.Check("read", l); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrHole) {
			t.Errorf("%v: %v", c.r, err)
		}
	}
}

// TestRangesCopy copies headers from and to pieces, and holds that a copy which
// doesn't fit copies nothing.
func TestRangesCopy(t *testing.T) {
	r := makeRAM(t, Memfd, splitLayout(t))
	buf := Ranges{{0x103ffe, 4}, {0, 0}, {5, 3}}
	if err := buf.CopyIn(r, []byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if err := buf.CopyOut(r, got); err != nil || string(got) != "abcdef\x00" {
		t.Errorf("CopyOut = %q, %v", got, err)
	}
	if err := buf.CopyIn(r, bytes.Repeat([]byte("x"), 8)); !errors.Is(err, ErrShort) {
		t.Errorf("CopyIn of more than fits = %v, want ErrShort", err)
	}
	if err := buf.CopyOut(r, got); err != nil || string(got) != "abcdef\x00" {
		t.Errorf("a refused CopyIn changed guest memory to %q, %v", got, err)
	}
	if err := (Ranges{{8*PageSize - 1, 2}}).CopyOut(r, got[:2]); !errors.Is(err, ErrHole) {
		t.Errorf("CopyOut of a hole = %v", err)
	}
}

// FuzzRanges holds Cut to its definition, and that nobody's pieces change: not by
// Cut, nor by appending to what it returns.
func FuzzRanges(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4}, uint64(3))
	f.Fuzz(func(t *testing.T, pieces []byte, n uint64) {
		var r Ranges
		for i := 0; i+1 < len(pieces); i += 2 {
			r = append(r, Range{GPA(pieces[i]), uint32(pieces[i+1])})
		}
		bytesOf := func(r Ranges) (all []GPA) {
			for _, p := range r {
				for i := range p.Size {
					all = append(all, p.GPA+GPA(i))
				}
			}
			return all
		}
		before := slices.Clone(r)
		n %= r.Size() + 2
		head, tail := r.Cut(n)
		wantHead := min(n, r.Size())
		if head.Size() != wantHead || !slices.Equal(append(bytesOf(head), bytesOf(tail)...), bytesOf(r)) {
			t.Errorf("%v.Cut(%d) = %v, %v", r, n, head, tail)
		}
		h, tl := slices.Clone(head), slices.Clone(tail)
		_ = append(head, Range{1 << 40, 99})
		_ = append(tail, Range{1 << 41, 98})
		if !slices.Equal(r, before) || !slices.Equal(head, h) || !slices.Equal(tail, tl) {
			t.Errorf("appending to a part of %v changed %v or %v", before, head, tail)
		}
	})
}
