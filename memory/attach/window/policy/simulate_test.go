package policy

import "slices"

// What things cost, in µs, as measured on Linux 6.18 with kvm_pvm; the rescue's
// is an estimate from its system calls. The guest waits for the first three;
// the evictor works beside it, on another CPU if there is one.
const (
	faultCost  = 70.0 // a fault on an absent page, from access to access
	fillCost   = 3.5  // each further page of its cluster
	rescueCost = 47.0 // a fault on a cool page

	zapRun, zapPage     = 2.4, 0.3 // unmapping, a contiguous run and each page of it
	punchRun, punchPage = 4.4, 1.0 // giving frames back
	storeCost           = 1.0      // copying a page to the store, and wiping it
	firstCost           = 20.0     // of a page's first use of the store
)

// chooser is what the pager needs of Frames. The candidates differ in which
// pages Chill and Victim choose.
type chooser interface {
	State(page uint32) State
	Room() int
	cools() int
	Take(page uint32)
	Hold(page uint32)
	Settle(page uint32, to State) bool
	Drop(page uint32) bool
	Chill(old bool) (uint32, bool)
	Victim(old bool) (uint32, bool)
}

// oracle is a chooser that sees every reference, which no pager does, and when
// each page will be referenced next, which nobody does.
type oracle interface {
	see(page uint32, next []int)
}

func (f *Frames) cools() int { return f.count[Cool] }

// setup is how the pager is set up around a policy.
type setup struct {
	limit int
	cool  int // cool pages to have before any is evicted
	low   int // evict when there is less room than this
	batch int
	fill  filler
}

// filler says what to fill with a page; Streams is one.
type filler interface {
	Next(page uint32) (lo, hi uint32)
}

// Result is what a replay came to.
type Result struct {
	Refs    int // references to pages, the trace's
	Faults  int // of those, to pages that were absent
	Rescues int // and to pages that were cool
	Filled  int // pages: those that faulted, and their neighbours
	Evicted int // pages
	Stalls  int // faults that had to wait for an eviction

	// Modelled times in µs: how long the guest waited, and how long the
	// evictor worked beside it.
	Waited, Worked float64
}

func (r Result) cost() float64 { return (r.Waited + r.Worked) / float64(r.Refs) }

// pager is the real one's way of using a policy, with the costs added up and
// nothing else done.
type pager struct {
	setup
	chooser
	Result
	used, stored []bool // by page: the guest has used it; the store has it
	batchPages   []uint32
}

// simulate lets the guest of a trace run in a window.
func simulate(t *Trace, p chooser, s setup) Result {
	g := &pager{setup: s, chooser: p, used: make([]bool, t.Pages), stored: make([]bool, t.Pages)}
	g.Refs = len(t.Refs)
	var next nextUses
	o, seeing := p.(oracle)
	if seeing {
		next = newNextUses(t)
	}
	for i, page := range t.Refs {
		if seeing {
			next.advance(i, page)
		}
		g.used[page] = true
		switch g.State(page) {
		case Cool:
			g.Rescues++
			g.Waited += rescueCost
			g.Hold(page)
			g.Settle(page, Mapped)
			g.evict()
		case Absent:
			g.fault(t, page)
			g.evict()
		}
		if seeing {
			o.see(page, next.of)
		}
	}
	return g.Result
}

func (g *pager) fault(t *Trace, page uint32) {
	g.Faults++
	if g.Room() == 0 { // the evictor didn't keep up
		g.Stalls++
		before := g.Worked
		g.evictBatch(1)
		g.Waited += g.Worked - before
		g.Worked = before
	}
	lo, hi := g.fill.Next(page)
	hi = min(hi, t.Pages)
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
	g.Filled += int(hi - lo)
	g.Waited += faultCost + float64(hi-lo-1)*fillCost
	for p := lo; p < hi; p++ {
		g.Take(p)
	}
	for p := lo; p < hi; p++ {
		g.Settle(p, Mapped)
	}
}

func (g *pager) evict() {
	for g.Room() < g.low {
		g.evictBatch(g.batch)
	}
}

func (g *pager) evictBatch(n int) {
	g.batchPages = g.batchPages[:0]
	for want := max(g.setup.cool, n); g.cools() < want; {
		p, ok := g.Chill(false)
		if !ok {
			break
		}
		g.batchPages = append(g.batchPages, p)
	}
	g.Worked += zapRun*g.runs() + zapPage*float64(len(g.batchPages))
	g.batchPages = g.batchPages[:0]
	for range n {
		p, ok := g.Victim(false)
		if !ok {
			break
		}
		g.batchPages = append(g.batchPages, p)
		if g.used[p] || g.stored[p] {
			g.Worked += storeCost
			if !g.stored[p] {
				g.Worked += firstCost
			}
			g.stored[p] = true
		}
	}
	g.Evicted += len(g.batchPages)
	g.Worked += punchRun*g.runs() + punchPage*float64(len(g.batchPages))
	for _, p := range g.batchPages {
		g.Drop(p)
	}
}

// runs is how many contiguous runs the batch has.
func (g *pager) runs() (n float64) {
	slices.Sort(g.batchPages)
	for i, p := range g.batchPages {
		if i == 0 || p != g.batchPages[i-1]+1 {
			n++
		}
	}
	return n
}

// nextUses says of every page, at any point of a trace, when it is used next.
type nextUses struct {
	of    []int // by page
	after []int // by reference: the next one to the same page
}

func newNextUses(t *Trace) nextUses {
	n := nextUses{make([]int, t.Pages), make([]int, len(t.Refs))}
	for p := range n.of {
		n.of[p] = len(t.Refs)
	}
	for i := len(t.Refs) - 1; i >= 0; i-- {
		n.after[i] = n.of[t.Refs[i]]
		n.of[t.Refs[i]] = i
	}
	return n
}

// advance says that reference i, to page, is done.
func (n nextUses) advance(i int, page uint32) { n.of[page] = n.after[i] }
