package policy

import "container/heap"

// candidate is a policy to compare.
type candidate struct {
	name string
	// unmapped is the part of the window that is kept unmapped. With 0, pages
	// are unmapped only to be evicted.
	unmapped float64
	make     func(pages, limit int) replacement
}

// chosen is the name of the policy that windows use.
const chosen = "chosen"

// candidates are the policies to compare. Second chance is CLOCK with the
// unmapping of a page for the clearing of its reference bit, and a minor fault
// for the setting of it.
var candidates = []candidate{
	{"fifo", 0, newFIFO},
	{"second-chance", 1. / 16, newFIFO},
	{chosen, 0, newFrames},
	{"lru", 0, newLRU},
	{"opt", 0, newOPT},
	{"second-chance/unmapped=1-4", 1. / 4, newFIFO},
	{"chosen/unmapped=1-16", 1. / 16, newFrames},
	{"chosen/unmapped=1-8", 1. / 8, newFrames},
	{"chosen/unmapped=1-4", 1. / 4, newFrames},
	{"minor-only/unmapped=1-16", 1. / 16, segmented{inactive: .25, minor: true}.make},
	{"minor-only/unmapped=1-8", 1. / 8, segmented{inactive: .25, minor: true}.make},
	{"inactive=1-10", 0, segmented{inactive: .1, refault: 1, minor: true}.make},
	{"inactive=1-2", 0, segmented{inactive: .5, refault: 1, minor: true}.make},
	{"refault=1-2", 0, segmented{inactive: .25, refault: .5, minor: true}.make},
	{"refault=2", 0, segmented{inactive: .25, refault: 2, minor: true}.make},
	{"ahead=1-16", 0, segmented{inactive: .25, refault: 1, minor: true, ahead: 1. / 16}.make},
}

func newFIFO(pages, limit int) replacement   { return &fifo{newPool(pages, limit)} }
func newLRU(pages, limit int) replacement    { return &lru{fifo{newPool(pages, limit)}} }
func newOPT(pages, limit int) replacement    { return &opt{pool: newPool(pages, limit)} }
func newFrames(pages, limit int) replacement { return NewFrames(pages, limit) }

// run replays a trace in a window of limit pages that is configured as windows
// are. If fill isn't nil, it replaces Streams.
func (c candidate) run(t *trace, limit int, fill readahead) result {
	most := max(1, min(MaxFill, limit/16))
	if fill == nil {
		fill = &Streams{Most: uint32(most)}
	}
	return simulate(t, c.make(int(t.pages), limit),
		setup{limit: limit, unmapped: int(c.unmapped * float64(limit)), reserve: 2 * most, batch: MaxBatch, fill: fill})
}

// pool is common to the candidates: the states of pages, and lists of them, the
// oldest last.
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
func (p *pool) Count(State) int         { return p.n[poolUnmapped] } // of unmapped pages
func (p *pool) Allocate(page uint32)    { p.states[page] = Busy; p.used++ }
func (p *pool) Free(page uint32) bool   { p.states[page] = Absent; p.used--; return false }
func (p *pool) Isolate(page uint32)     { p.remove(page); p.states[page] = Busy }
func (p *pool) Map(page uint32)         { p.put(page, Mapped, 0) }

// put makes a page the newest of a list.
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

// poolUnmapped is the list of unmapped pages. The others have mapped ones.
const poolUnmapped = 3

func (p *pool) unmapFrom(list int) (uint32, bool) {
	page, ok := p.oldest(list)
	if ok {
		p.remove(page)
		p.put(page, Unmapped, poolUnmapped)
	}
	return page, ok
}

func (p *pool) Victim(bool) (uint32, bool) {
	page, ok := p.oldest(poolUnmapped)
	if ok {
		p.remove(page)
		p.states[page] = Busy
	}
	return page, ok
}

// fifo unmaps pages in the order in which they were mapped.
type fifo struct{ pool }

func (f *fifo) Unmap(bool) (uint32, bool) { return f.unmapFrom(0) }

// lru evicts the page that was used the longest ago. It is told of every use.
type lru struct{ fifo }

func (l *lru) reference(page uint32, _ []int) {
	if l.states[page] == Mapped {
		l.remove(page)
		l.put(page, Mapped, 0)
	}
}

// opt evicts the page whose next use is the furthest in the future (Belady's
// MIN), so that no policy has fewer faults.
type opt struct {
	pool
	next  []int
	queue farthest
}

func (o *opt) reference(page uint32, next []int) {
	o.next = next
	heap.Push(&o.queue, use{next[page], page})
}

func (o *opt) Unmap(bool) (uint32, bool) { return 0, false }

func (o *opt) Map(page uint32) {
	if o.next != nil {
		heap.Push(&o.queue, use{o.next[page], page})
	}
	o.pool.Map(page)
}

func (o *opt) Victim(bool) (uint32, bool) {
	for len(o.queue) > 0 {
		u := heap.Pop(&o.queue).(use)
		if o.states[u.page] == Mapped && o.next[u.page] == u.at {
			o.Isolate(u.page)
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
