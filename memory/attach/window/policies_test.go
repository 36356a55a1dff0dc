package window

import "container/heap"

// pool is what the candidates have in common: the state of pages, and lists of
// them, oldest last.
type pool struct {
	limit, used int
	states      []state
	list        []int8 // by page: the list that it is in
	prev, next  []uint32
	n           [4]int // by list: its length
}

func newPool(pages, limit int) pool {
	p := pool{limit: limit, states: make([]state, pages), list: make([]int8, pages)}
	p.prev, p.next = make([]uint32, pages+len(p.n)), make([]uint32, pages+len(p.n))
	for l := range p.n {
		h := p.head(l)
		p.prev[h], p.next[h] = h, h
	}
	return p
}

func (p *pool) head(list int) uint32    { return uint32(len(p.states) + list) }
func (p *pool) state(page uint32) state { return p.states[page] }
func (p *pool) room() int               { return p.limit - p.used }
func (p *pool) take(page uint32)        { p.states[page] = busy; p.used++ }
func (p *pool) drop(page uint32) bool   { p.states[page] = absent; p.used--; return false }
func (p *pool) hold(page uint32)        { p.remove(page); p.states[page] = busy }
func (p *pool) settle(page uint32, to state) bool {
	p.put(page, to, 0)
	return false
}

// put makes a page the youngest of a list.
func (p *pool) put(page uint32, to state, list int) {
	h := p.head(list)
	p.states[page], p.list[page] = to, int8(list)
	p.n[list]++
	p.prev[page], p.next[page] = h, p.next[h]
	p.prev[p.next[h]] = page
	p.next[h] = page
}

func (p *pool) remove(page uint32) {
	p.n[p.list[page]]--
	p.next[p.prev[page]], p.prev[p.next[page]] = p.next[page], p.prev[page]
}

func (p *pool) oldest(list int) (uint32, bool) {
	h := p.head(list)
	return p.prev[h], p.prev[h] != h
}

// poolCool is the list of cool pages; the others are of mapped ones.
const poolCool = 3

func (p *pool) cools() int { return p.n[poolCool] }

func (p *pool) chillFrom(list int) (uint32, bool) {
	page, ok := p.oldest(list)
	if ok {
		p.remove(page)
		p.put(page, cool, poolCool)
	}
	return page, ok
}

func (p *pool) victim(bool) (uint32, bool) {
	page, ok := p.oldest(poolCool)
	if ok {
		p.remove(page)
		p.states[page] = busy
	}
	return page, ok
}

// fifo chills in the order that pages were mapped.
type fifo struct{ pool }

func (f *fifo) chill(bool) (uint32, bool) { return f.chillFrom(0) }

// lru evicts the page whose last use was the longest ago.
type lru struct{ fifo }

func (l *lru) see(page uint32, _ []int) {
	if l.states[page] == mapped {
		l.remove(page)
		l.put(page, mapped, 0)
	}
}

// opt evicts the page whose next use is the furthest (Belady's MIN).
type opt struct {
	pool
	next  []int
	queue farthest
}

func (o *opt) see(page uint32, next []int) {
	o.next = next
	heap.Push(&o.queue, use{next[page], page})
}

func (o *opt) chill(bool) (uint32, bool) { return 0, false }

func (o *opt) settle(page uint32, to state) bool {
	if o.next != nil {
		heap.Push(&o.queue, use{o.next[page], page})
	}
	return o.pool.settle(page, to)
}

func (o *opt) victim(bool) (uint32, bool) {
	for len(o.queue) > 0 {
		u := heap.Pop(&o.queue).(use)
		if o.states[u.page] == mapped && o.next[u.page] == u.at {
			o.hold(u.page)
			return u.page, true
		}
	}
	return 0, false
}

type use struct {
	at   int
	page uint32
}

type farthest []use

func (f farthest) Len() int           { return len(f) }
func (f farthest) Less(i, j int) bool { return f[i].at > f[j].at }
func (f farthest) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *farthest) Push(u any)        { *f = append(*f, u.(use)) }
func (f *farthest) Pop() any {
	u := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return u
}

// segmented is frames with its choices left open, written another way: pages
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

func newSegmented(pages, limit int, s segmented) policy {
	s.pool = newPool(pages, limit)
	s.proved, s.evicted = make([]bool, pages), make([]int, pages)
	return &s
}

func (s *segmented) over(list int, share float64) bool {
	return s.n[list] > int(share*float64(s.n[segYoung]+s.n[segProved]+s.n[segWalked]))
}

func (s *segmented) take(page uint32) {
	s.pool.take(page)
	if s.settled {
		s.taken, s.settled = 0, false
	}
	s.taken++
	e := s.evicted[page]
	s.proved[page] = e != 0 && float64(s.now-e) < s.ghost*float64(s.limit)
}

func (s *segmented) hold(page uint32) {
	if s.states[page] == cool && s.rescued {
		s.proved[page] = true
	}
	s.pool.hold(page)
}

func (s *segmented) settle(page uint32, to state) bool {
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

func (s *segmented) drop(page uint32) bool {
	s.now++
	s.evicted[page] = s.now
	return s.pool.drop(page)
}

func (s *segmented) chill(bool) (uint32, bool) {
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
