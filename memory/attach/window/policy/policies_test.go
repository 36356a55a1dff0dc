package policy

import "container/heap"

// Candidate is a policy to compare with others.
type Candidate struct {
	Name string
	// cool is the part of the window that is kept cool. With 0, as many pages
	// are cool as are evicted at once, and for no longer.
	cool float64
	make func(pages, limit int) chooser
}

// Chosen is the name of the policy that windows have.
const Chosen = "chosen"

// Candidates are the policy that windows have, and those around it: FIFO, and
// second chance, which is what can be had of CLOCK where faults are all that is
// seen, need to know no more than it; LRU sees every use of a page, and OPT
// sees the future, so that nothing has fewer faults a page.
func Candidates() []Candidate {
	return []Candidate{
		{"fifo", 0, newFIFO},
		{"second-chance", 1. / 16, newFIFO},
		{Chosen, 0, theChoice},
		{"lru", 0, newLRU},
		{"opt", 0, newOPT},
	}
}

func newFIFO(pages, limit int) chooser   { return &fifo{newPool(pages, limit)} }
func newLRU(pages, limit int) chooser    { return &lru{fifo{newPool(pages, limit)}} }
func newOPT(pages, limit int) chooser    { return &opt{pool: newPool(pages, limit)} }
func theChoice(pages, limit int) chooser { return NewFrames(pages, limit) }

// Replay lets the guest of a trace run in a window of so many pages, set up as
// windows are.
func (c Candidate) Replay(t *Trace, window int) Result { return c.run(t, window, nil) }

// run is Replay with fill in place of Streams if it isn't nil.
func (c Candidate) run(t *Trace, limit int, fill filler) Result {
	most := max(1, min(MaxFill, limit/16))
	if fill == nil {
		fill = &Streams{Most: uint32(most)}
	}
	return simulate(t, c.make(int(t.Pages), limit),
		setup{limit: limit, cool: int(c.cool * float64(limit)), low: 2 * most, batch: MaxBatch, fill: fill})
}

// pool is what the candidates have in common: the state of pages, and lists of
// them, oldest last.
type pool struct {
	limit, used int
	states      []State
	list        []int8 // by page: the list that it is in
	prev, next  []uint32
	n           [4]int // by list: its length
}

func newPool(pages, limit int) pool {
	p := pool{limit: limit, states: make([]State, pages), list: make([]int8, pages)}
	p.prev, p.next = make([]uint32, pages+len(p.n)), make([]uint32, pages+len(p.n))
	for l := range p.n {
		h := p.head(l)
		p.prev[h], p.next[h] = h, h
	}
	return p
}

func (p *pool) head(list int) uint32    { return uint32(len(p.states) + list) }
func (p *pool) State(page uint32) State { return p.states[page] }
func (p *pool) Room() int               { return p.limit - p.used }
func (p *pool) Take(page uint32)        { p.states[page] = Busy; p.used++ }
func (p *pool) Drop(page uint32) bool   { p.states[page] = Absent; p.used--; return false }
func (p *pool) Hold(page uint32)        { p.remove(page); p.states[page] = Busy }
func (p *pool) Settle(page uint32, to State) bool {
	p.put(page, to, 0)
	return false
}

// put makes a page the youngest of a list.
func (p *pool) put(page uint32, to State, list int) {
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
		p.put(page, Cool, poolCool)
	}
	return page, ok
}

func (p *pool) Victim(bool) (uint32, bool) {
	page, ok := p.oldest(poolCool)
	if ok {
		p.remove(page)
		p.states[page] = Busy
	}
	return page, ok
}

// fifo chills in the order that pages were mapped.
type fifo struct{ pool }

func (f *fifo) Chill(bool) (uint32, bool) { return f.chillFrom(0) }

// lru evicts the page whose last use was the longest ago.
type lru struct{ fifo }

func (l *lru) see(page uint32, _ []int) {
	if l.states[page] == Mapped {
		l.remove(page)
		l.put(page, Mapped, 0)
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

func (o *opt) Chill(bool) (uint32, bool) { return 0, false }

func (o *opt) Settle(page uint32, to State) bool {
	if o.next != nil {
		heap.Push(&o.queue, use{o.next[page], page})
	}
	return o.pool.Settle(page, to)
}

func (o *opt) Victim(bool) (uint32, bool) {
	for len(o.queue) > 0 {
		u := heap.Pop(&o.queue).(use)
		if o.states[u.page] == Mapped && o.next[u.page] == u.at {
			o.Hold(u.page)
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
