package window

import "math"

// streams finds the guests' sequential walks among its faults, and says how
// many pages to fill at once: one where there is no walk, and twice as many
// each time that a walk goes on, up to a most. It makes no system calls.
//
// Walks go up and down: Linux gives out early memory from the top.
type streams struct {
	walks [8]walk
	hand  int // of the next walk to replace
	most  uint32
}

// walk is a run of pages [lo, hi) that was filled, size of them the last time.
type walk struct{ lo, hi, size uint32 }

// next is called with a page that has faulted and is absent, and returns the
// pages [lo, hi) to fill with it among them. They may be beyond the guest's
// RAM, or not absent.
func (s *streams) next(page uint32) (lo, hi uint32) {
	for i := range s.walks {
		w := &s.walks[i]
		switch {
		case w.size == 0:
		case page == w.hi: // upward
			w.size = min(2*w.size, s.most, math.MaxUint32-page)
			w.lo, w.hi = page, page+w.size
			return w.lo, w.hi
		case page+1 == w.lo: // downward
			w.size = min(2*w.size, s.most, page+1)
			w.lo, w.hi = page+1-w.size, page+1
			return w.lo, w.hi
		}
	}
	s.walks[s.hand] = walk{page, page + 1, 1}
	s.hand = (s.hand + 1) % len(s.walks)
	return page, page + 1
}
