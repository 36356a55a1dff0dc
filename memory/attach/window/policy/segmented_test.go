package policy

// segmented is Frames with its choices left open, written another way: pages
// are proved by a rescue (if rescued), or by coming back before ghost times the
// window was evicted; pages that are not proved go first while there are more
// of them than young times the mapped pages. If walked is above 0, what was filled
// along with another page has a list of its own, which goes before the others
// while it is longer than walked times the mapped pages.
type segmented struct {
	pool
	young, ghost, walked float64
	rescued              bool

	proved  []bool
	evicted []int // by page: when, in evictions, from 1
	now     int
	taken   int  // pages of the last fill
	settled bool // the last fill is complete
}

const (
	segYoung = iota
	segProved
	segWalked
)

func newSegmented(pages, limit int, s segmented) chooser {
	s.pool = newPool(pages, limit)
	s.proved, s.evicted = make([]bool, pages), make([]int, pages)
	return &s
}

func (s *segmented) over(list int, share float64) bool {
	return s.n[list] > int(share*float64(s.n[segYoung]+s.n[segProved]+s.n[segWalked]))
}

func (s *segmented) Take(page uint32) {
	s.pool.Take(page)
	if s.settled {
		s.taken, s.settled = 0, false
	}
	s.taken++
	e := s.evicted[page]
	s.proved[page] = e != 0 && float64(s.now-e) < s.ghost*float64(s.limit)
}

func (s *segmented) Hold(page uint32) {
	if s.states[page] == Cool && s.rescued {
		s.proved[page] = true
	}
	s.pool.Hold(page)
}

func (s *segmented) Settle(page uint32, to State) bool {
	s.settled = true
	switch {
	case s.proved[page]:
		s.put(page, to, segProved)
	case s.walked > 0 && s.taken > 1:
		s.put(page, to, segWalked)
	default:
		s.put(page, to, segYoung)
	}
	return false
}

func (s *segmented) Drop(page uint32) bool {
	s.now++
	s.evicted[page] = s.now
	return s.pool.Drop(page)
}

func (s *segmented) Chill(bool) (uint32, bool) {
	order := []int{segProved, segYoung, segWalked}
	if s.over(segYoung, s.young) {
		order = []int{segYoung, segProved, segWalked}
	}
	if s.over(segWalked, s.walked) {
		order = append([]int{segWalked}, order...)
	}
	for _, list := range order {
		if page, ok := s.chillFrom(list); ok {
			return page, true
		}
	}
	return 0, false
}
