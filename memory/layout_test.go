package memory

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewLayout(t *testing.T) {
	for _, c := range []struct {
		name string
		size uint64
		want Layout
	}{
		{"least", 32 << 20, Layout{{0, 32 << 20, 0}}},
		{"up to the hole", 3 << 30, Layout{{0, 3 << 30, 0}}},
		{"a page over the hole", 3<<30 + 4096, Layout{{0, 3 << 30, 0}, {4 << 30, 4096, 3 << 30}}},
		{"over 4 GiB", 6 << 30, Layout{{0, 3 << 30, 0}, {4 << 30, 3 << 30, 3 << 30}}},
	} {
		got, err := NewLayout(c.size)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, diff)
		}
		if got.Size() != c.size {
			t.Errorf("%s: Size %d, want %d", c.name, got.Size(), c.size)
		}
	}
	for _, size := range []uint64{0, 4096, 32<<20 - 4096, 32<<20 + 1, 1<<40 + 4096, 1<<64 - 4096} {
		if l, err := NewLayout(size); err == nil {
			t.Errorf("NewLayout(%d) = %v, want an error", size, l)
		}
	}
}

func TestLayoutOf(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []Region
		want error
	}{
		{"none", nil, ErrNoRegions},
		{"overlap", []Region{{Start: 0, Size: 0x2000}, {Start: 0x1000, Size: 0x1000}}, ErrOverlap},
		{"twice", []Region{{Start: 0, Size: 0x1000}, {Start: 0, Size: 0x1000}}, ErrOverlap},
		{"unsorted", []Region{{Start: 0x2000, Size: 0x1000}, {Start: 0, Size: 0x1000}}, ErrUnsorted},
		{"empty", []Region{{Start: 0, Size: 0}}, ErrUnaligned},
		{"odd size", []Region{{Start: 0, Size: 0x1001}}, ErrUnaligned},
		{"odd start", []Region{{Start: 0x10, Size: 0x1000}}, ErrUnaligned},
		{"touching", []Region{{Start: 0, Size: 0x1000}, {Start: 0x1000, Size: 0x1000}}, nil},
	} {
		if _, err := LayoutOf(c.in...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := LayoutOf(Region{Start: 1<<64 - 4096, Size: 8192}); err == nil {
		t.Error("a region that wraps around was taken")
	}
}

// FuzzLayout holds Find and Contains against a walk by page.
func FuzzLayout(f *testing.F) {
	f.Add(uint64(0), uint64(3), uint64(8), uint64(2), uint64(0x2fff), uint64(2))
	f.Add(uint64(1), uint64(1), uint64(2), uint64(4), uint64(0x1000), uint64(0x5001))
	f.Fuzz(func(t *testing.T, s1, n1, s2, n2, gpa, n uint64) {
		const max = 64
		l, err := LayoutOf(Region{Start: GPA(s1%max) * PageSize, Size: n1 % max * PageSize},
			Region{Start: GPA(s2%max) * PageSize, Size: n2 % max * PageSize})
		if err != nil {
			return
		}
		gpa %= 3 * max * PageSize
		n %= 3 * max * PageSize
		want := true
		for a := gpa; a < gpa+n; a++ {
			in := false
			for _, r := range l {
				in = in || (GPA(a) >= r.Start && GPA(a) < r.End())
			}
			if !in {
				want = false
				break
			}
		}
		if got := l.Contains(GPA(gpa), n); got != want {
			t.Fatalf("%v.Contains(0x%x, 0x%x) = %v, want %v", l, gpa, n, got, want)
		}
		if off, have, ok := l.Find(GPA(gpa)); ok != l.Contains(GPA(gpa), 1) || ok && off+have > l.Size() {
			t.Fatalf("%v.Find(0x%x) = %d, %d, %v", l, gpa, off, have, ok)
		}
	})
}

func TestParseBackend(t *testing.T) {
	for _, b := range Backends() {
		if got, err := ParseBackend(string(b)); got != b || err != nil {
			t.Errorf("ParseBackend(%q) = %q, %v", b, got, err)
		}
	}
	if _, err := ParseBackend("plain"); err == nil {
		t.Error("an unknown backend was taken")
	}
}
