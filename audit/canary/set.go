package canary

import "encoding/binary"

// set is the canaries that a search looks for. The time of a search hardly
// depends on their number.
type set struct {
	canaries []Canary
	// filter has 1 for the low bits of each canary's first word, masked:
	// few words of RAM pass it.
	filter [filterSize]byte
}

const filterSize = 1 << 12

// match is a copy of a canary: its index in the set, and its offset in a buffer.
type match struct{ at, canary int }

func newSet(canaries []Canary) *set {
	s := &set{canaries: canaries}
	for _, c := range canaries {
		s.filter[c.masked[0]%filterSize] = 1
	}
	return s
}

// passes looks up the first word of b in the filter.
//
//go:norace
func (s *set) passes(b []byte) byte {
	return s.filter[(binary.LittleEndian.Uint64(b)^pad0)%filterSize]
}

// find appends to found every copy of a canary's clear text in b that is
// aligned to step, in ascending order.
//
// The race detector would make it twenty times slower, and no other goroutine has b.
//
//go:norace
func (s *set) find(b []byte, found []match) []match {
	i := 0
	// A cache line a turn; 24 bytes stay for a copy that starts in its last word.
	for ; len(b)-i >= 64+Size-step; i += 64 {
		l := b[i : i+64]
		if s.passes(l[0:])|s.passes(l[8:])|s.passes(l[16:])|s.passes(l[24:])|
			s.passes(l[32:])|s.passes(l[40:])|s.passes(l[48:])|s.passes(l[56:]) == 0 {
			continue
		}
		for j := i; j < i+64; j += step {
			found = s.at(b, j, found)
		}
	}
	for ; len(b)-i >= Size; i += step {
		found = s.at(b, i, found)
	}
	return found
}

// at looks at one place.
func (s *set) at(b []byte, i int, found []match) []match {
	if s.passes(b[i:]) == 0 {
		return found
	}
	for n := range s.canaries {
		if s.canaries[n].In(b[i:]) {
			found = append(found, match{i, n})
		}
	}
	return found
}
