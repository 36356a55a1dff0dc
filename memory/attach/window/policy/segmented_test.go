package policy

// segmented is the policy of Frames with parameters, implemented another way. A
// page becomes active by a minor fault (if minor is set), or by a refault at a
// distance below refault times the window. Inactive pages are evicted first
// while they are more than the share inactive of the mapped pages. If ahead is
// above 0, pages of a readahead have a list of their own, and are evicted before
// all others while they are more than the share ahead of the mapped pages.
type segmented struct {
	pool
	inactive, refault, ahead float64
	minor                    bool

	active  []bool
	evicted []int // by page: the value of now when it was evicted, or 0
	now     int   // pages evicted
	filled  int   // pages of the last fill
	mapped  bool  // the last fill is complete
}

const (
	segInactive = iota
	segActive
	segAhead
)

func (s segmented) make(pages, limit int) replacement {
	s.pool = newPool(pages, limit)
	s.active, s.evicted = make([]bool, pages), make([]int, pages)
	return &s
}

func (s *segmented) over(list int, share float64) bool {
	return s.n[list] > int(share*float64(s.n[segInactive]+s.n[segActive]+s.n[segAhead]))
}

func (s *segmented) Allocate(page uint32) {
	s.pool.Allocate(page)
	if s.mapped {
		s.filled, s.mapped = 0, false
	}
	s.filled++
	e := s.evicted[page]
	s.active[page] = e != 0 && float64(s.now-e) < s.refault*float64(s.limit)
}

func (s *segmented) Isolate(page uint32) {
	if s.states[page] == Unmapped && s.minor {
		s.active[page] = true
	}
	s.pool.Isolate(page)
}

func (s *segmented) Map(page uint32) {
	s.mapped = true
	switch {
	case s.active[page]:
		s.put(page, Mapped, segActive)
	case s.ahead > 0 && s.filled > 1:
		s.put(page, Mapped, segAhead)
	default:
		s.put(page, Mapped, segInactive)
	}
}

func (s *segmented) Free(page uint32) bool {
	s.now++
	s.evicted[page] = s.now
	return s.pool.Free(page)
}

func (s *segmented) Unmap(bool) (uint32, bool) {
	order := []int{segActive, segInactive, segAhead}
	if s.over(segInactive, s.inactive) {
		order = []int{segInactive, segActive, segAhead}
	}
	if s.over(segAhead, s.ahead) {
		order = append([]int{segAhead}, order...)
	}
	for _, list := range order {
		if page, ok := s.unmapFrom(list); ok {
			return page, true
		}
	}
	return 0, false
}
