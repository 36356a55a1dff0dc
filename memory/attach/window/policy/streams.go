package policy

import "math"

// MaxFill is the most pages that are filled for one fault: window.run has a
// bit for each of them in a word.
const MaxFill = 64

// Streams detects sequential streams among a guest's faults and sets the
// readahead: how many pages to fill for a fault. A fault that belongs to no
// stream fills one page. Each further fault of a stream fills twice as many as
// the one before, up to Most. Streams makes no system calls.
//
// Streams ascend or descend: Linux allocates early memory from the top. Several
// can be active at once, of several CPUs or of one that copies, with unrelated
// faults in between.
type Streams struct {
	streams [32]stream // the most recent first
	Most    uint32     // pages, at least 1
}

// stream has the pages [lo, hi) that were filled for its last fault, which was
// on page at. In an ascending stream at is lo, in a descending one hi-1.
type stream struct{ lo, hi, at uint32 }

// Next returns the pages [lo, hi) to fill for a fault on page, which is absent
// and one of them. The others may be beyond the guest's RAM, or not absent.
//
// A fault continues a stream if it is on the page after the stream's last fill,
// or inside that fill, beyond its first page: if some pages of the fill were
// resident already, they weren't filled, and can have been evicted since.
func (s *Streams) Next(page uint32) (lo, hi uint32) {
	last := len(s.streams) - 1
	found, to := last, stream{page, page + 1, page}
	for i, w := range s.streams {
		size := min(2*(w.hi-w.lo), s.Most)
		if page > w.at && page <= w.hi {
			found, to.hi = i, page+min(size, math.MaxUint32-page)
			break
		}
		if page < w.at && page+1 >= w.lo {
			found, to.lo = i, page+1-min(size, page+1)
			break
		}
	}
	copy(s.streams[1:found+1], s.streams[:found])
	s.streams[0] = to
	return to.lo, to.hi
}
