package policy

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
)

func TestStreams(t *testing.T) {
	type fill struct{ page, lo, hi uint32 }
	for _, c := range []struct {
		name  string
		fills []fill
	}{
		{"up", []fill{{10, 10, 11}, {11, 11, 13}, {13, 13, 17}, {17, 17, 25}, {25, 25, 33}}},
		{"down", []fill{{50, 50, 51}, {49, 48, 50}, {47, 44, 48}, {43, 36, 44}, {35, 28, 36}}},
		{"down to the first page", []fill{{2, 2, 3}, {1, 0, 2}}},
		{"down past the first page", []fill{{4, 4, 5}, {3, 2, 4}, {1, 0, 2}}},
		{"scattered", []fill{{10, 10, 11}, {90, 90, 91}, {50, 50, 51}, {70, 70, 71}}},
		{"two streams", []fill{{10, 10, 11}, {90, 90, 91}, {11, 11, 13}, {89, 88, 90}, {13, 13, 17}, {87, 84, 88}}},
		{"up, partly resident", []fill{{10, 10, 11}, {11, 11, 13}, {13, 13, 17}, {15, 15, 23}, {22, 22, 30}}},
		{"down, partly resident", []fill{{50, 50, 51}, {49, 48, 50}, {47, 44, 48}, {45, 38, 46}, {38, 31, 39}}},
		{"the same page", []fill{{10, 10, 11}, {10, 10, 11}, {11, 11, 13}}},
		{"up to the last page", []fill{
			{math.MaxUint32 - 2, math.MaxUint32 - 2, math.MaxUint32 - 1},
			{math.MaxUint32 - 1, math.MaxUint32 - 1, math.MaxUint32},
		}},
	} {
		s := Streams{Most: 8}
		for i, f := range c.fills {
			if lo, hi := s.Next(f.page); lo != f.lo || hi != f.hi {
				t.Errorf("%s: fault %d on %d: [%d,%d), want [%d,%d)", c.name, i, f.page, lo, hi, f.lo, f.hi)
				break
			}
		}
	}
}

// TestStreamsAtOnce checks that as many streams as there is space for continue,
// and that a further one replaces the least recently used.
func TestStreamsAtOnce(t *testing.T) {
	s := Streams{Most: 8}
	n := uint32(len(s.streams))
	next := func(i, page, want uint32) {
		t.Helper()
		if lo, hi := s.Next(1000*i + page); hi-lo != want {
			t.Errorf("stream %d on page %d: fill %d, want %d", i, page, hi-lo, want)
		}
	}
	for i := range n {
		next(i, 0, 1)
	}
	for i := range n {
		next(i, 1, 2)
	}
	next(0, 3, 4)
	next(n, 0, 1) // replaces stream 1
	next(0, 7, 8)
	next(2, 3, 4)
	next(1, 3, 1)
}

// FuzzStreams checks that a fill includes the page, has at most Most pages, and
// stays within the range of page numbers.
func FuzzStreams(f *testing.F) {
	f.Add(uint8(32), faults(0, 1, 3, 7))
	f.Add(uint8(32), faults(7, 6, 4, 0))
	f.Add(uint8(1), faults(5, 6, 7))
	f.Add(uint8(255), faults(math.MaxUint32-5, math.MaxUint32-4, math.MaxUint32-2, math.MaxUint32-1))
	f.Fuzz(func(t *testing.T, most uint8, in []byte) {
		s := Streams{Most: max(1, uint32(most))}
		for c := range slices.Chunk(in, 4) {
			if len(c) < 4 {
				break
			}
			page := min(binary.LittleEndian.Uint32(c), math.MaxUint32-1)
			lo, hi := s.Next(page)
			if lo > page || hi <= page || hi-lo > s.Most {
				t.Fatalf("page %d, at most %d: [%d,%d)", page, s.Most, lo, hi)
			}
		}
	})
}

func faults(p ...uint32) (b []byte) {
	for _, p := range p {
		b = binary.LittleEndian.AppendUint32(b, p)
	}
	return b
}
