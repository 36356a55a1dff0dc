package policy

import "math"

// MaxFill is how many pages are filled at once, at most. A word has a bit for
// each (window.run).
const MaxFill = 64

// Streams finds the guest's sequential walks among its faults, and says how
// many pages to fill at once: one where there is no walk, and twice as many
// each time that a walk goes on, up to Most. It makes no system calls.
//
// Walks go up and down: Linux gives out early memory from the top. There can
// be several at once, of several CPUs or of one that copies, with other faults
// in between.
type Streams struct {
	walks [32]walk // the latest first
	Most  uint32   // pages, at least 1
}

// walk is a run of pages [lo, hi), the last to be filled for a fault on page
// at, which is where it begins: lo if the walk goes up, hi-1 if it goes down.
type walk struct{ lo, hi, at uint32 }

// Next is called with a page that has faulted and is absent, and returns the
// pages [lo, hi) to fill with it among them. They may be beyond the guest's
// RAM, or not absent.
//
// A walk has gone on if the fault is on the page that follows its run, or in
// the run beyond where it begins: not all of a run is filled if some of it was
// there already, and by now it can have been evicted. So a walk over pages
// that are partly there is not lost.
func (s *Streams) Next(page uint32) (lo, hi uint32) {
	last := len(s.walks) - 1
	found, to := last, walk{page, page + 1, page}
	for i, w := range s.walks {
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
	copy(s.walks[1:found+1], s.walks[:found])
	s.walks[0] = to
	return to.lo, to.hi
}
