package policy

import "slices"

// Costs in µs, measured on Linux 6.18 with kvm_pvm, except minorCost, which is an
// estimate from its system calls. The guest waits for the first three. The
// others are the evictor's, which runs on another CPU if there is one.
const (
	majorCost = 70.0 // a fault on an absent page, from access to access
	fillCost  = 3.5  // each further page that is filled for it
	minorCost = 47.0 // a fault on an unmapped page

	zapRun, zapPage     = 2.4, 0.3 // unmapping: each contiguous run, and each page
	punchRun, punchPage = 4.4, 1.0 // freeing frames, likewise
	storeCost           = 1.0      // copying a page to the store and wiping its frame
	firstCost           = 20.0     // the first copy of a page to the store, in addition
)

// replacement is what the pager uses of Frames. Replacement policies differ in
// the pages that Unmap and Victim choose.
type replacement interface {
	State(page uint32) State
	Room() int
	Count(s State) int
	Allocate(page uint32)
	Isolate(page uint32)
	Map(page uint32)
	Free(page uint32) (waited bool)
	Unmap(aged bool) (page uint32, ok bool)
	Victim(aged bool) (page uint32, ok bool)
}

// oracle is a policy that is told of every reference and, by page, when the next
// one is. No pager can know either.
type oracle interface {
	reference(page uint32, next []int)
}

// setup is the configuration of the pager.
type setup struct {
	limit    int
	unmapped int // pages to keep unmapped, from which victims are taken
	reserve  int // evict when there are fewer free frames
	batch    int
	fill     readahead
}

// readahead chooses the pages to fill for a fault, as Streams does.
type readahead interface {
	Next(page uint32) (lo, hi uint32)
}

// result is the outcome of a simulation.
type result struct {
	refs    int // references of the trace
	major   int // of those, to absent pages
	minor   int // of those, to unmapped pages
	filled  int // pages, readahead included
	evicted int // pages
	stalls  int // faults that waited for an eviction

	// Modelled times in µs: the guest's wait for faults, and the evictor's
	// work.
	waited, worked float64
}

func (r result) cost() float64 { return (r.waited + r.worked) / float64(r.refs) }

// pager uses a policy as the pager of package window does, and adds up costs.
type pager struct {
	setup
	replacement
	result
	used, stored []bool // by page: the guest has used it, the store has it
	batchPages   []uint32
}

// simulate replays a trace in a window.
func simulate(t *trace, p replacement, s setup) result {
	g := &pager{setup: s, replacement: p, used: make([]bool, t.pages), stored: make([]bool, t.pages)}
	g.refs = len(t.refs)
	var next nextUses
	o, isOracle := p.(oracle)
	if isOracle {
		next = newNextUses(t)
	}
	for i, page := range t.refs {
		if isOracle {
			next.advance(i, page)
		}
		g.used[page] = true
		switch g.State(page) {
		case Unmapped:
			g.minor++
			g.waited += minorCost
			g.Isolate(page)
			g.Map(page)
			g.evict()
		case Absent:
			g.fault(t, page)
			g.evict()
		}
		if isOracle {
			o.reference(page, next.of)
		}
	}
	return g.result
}

func (g *pager) fault(t *trace, page uint32) {
	g.major++
	if g.Room() == 0 { // the evictor is behind
		g.stalls++
		before := g.worked
		g.evictBatch(1)
		g.waited += g.worked - before
		g.worked = before
	}
	lo, hi := g.fill.Next(page)
	hi = min(hi, t.pages)
	for p := page; p > lo; p-- {
		if g.State(p-1) != Absent {
			lo = p
			break
		}
	}
	for p := page + 1; p < hi; p++ {
		if g.State(p) != Absent {
			hi = p
			break
		}
	}
	if n := uint32(g.Room()); hi-lo > n { // keep the page, and what follows it
		lo = max(lo, page-min(page, n-1))
		hi = min(hi, lo+n)
	}
	g.filled += int(hi - lo)
	g.waited += majorCost + float64(hi-lo-1)*fillCost
	for p := lo; p < hi; p++ {
		g.Allocate(p)
	}
	for p := lo; p < hi; p++ {
		g.Map(p)
	}
}

func (g *pager) evict() {
	for g.Room() < g.reserve {
		g.evictBatch(g.batch)
	}
}

func (g *pager) evictBatch(n int) {
	g.batchPages = g.batchPages[:0]
	for want := max(g.setup.unmapped, n); g.Count(Unmapped) < want; {
		p, ok := g.Unmap(false)
		if !ok {
			break
		}
		g.batchPages = append(g.batchPages, p)
	}
	g.worked += zapRun*g.runs() + zapPage*float64(len(g.batchPages))
	g.batchPages = g.batchPages[:0]
	for range n {
		p, ok := g.Victim(false)
		if !ok {
			break
		}
		g.batchPages = append(g.batchPages, p)
		if g.used[p] || g.stored[p] {
			g.worked += storeCost
			if !g.stored[p] {
				g.worked += firstCost
			}
			g.stored[p] = true
		}
	}
	g.evicted += len(g.batchPages)
	g.worked += punchRun*g.runs() + punchPage*float64(len(g.batchPages))
	for _, p := range g.batchPages {
		g.Free(p)
	}
}

// runs returns the number of contiguous runs in the batch.
func (g *pager) runs() (n float64) {
	slices.Sort(g.batchPages)
	for i, p := range g.batchPages {
		if i == 0 || p != g.batchPages[i-1]+1 {
			n++
		}
	}
	return n
}

// nextUses tells when each page is used next, at any point of a trace.
type nextUses struct {
	of    []int // by page
	after []int // by reference: the next one to the same page
}

func newNextUses(t *trace) nextUses {
	n := nextUses{make([]int, t.pages), make([]int, len(t.refs))}
	for p := range n.of {
		n.of[p] = len(t.refs)
	}
	for i := len(t.refs) - 1; i >= 0; i-- {
		n.after[i] = n.of[t.refs[i]]
		n.of[t.refs[i]] = i
	}
	return n
}

// advance moves past reference i, which is to page.
func (n nextUses) advance(i int, page uint32) { n.of[page] = n.after[i] }
