package window

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

// policy is what the pager needs of frames. The candidates differ in which
// pages chill and victim choose.
type policy interface {
	state(page uint32) state
	room() int
	cools() int
	take(page uint32)
	hold(page uint32)
	settle(page uint32, to state) bool
	drop(page uint32) bool
	chill(old bool) (uint32, bool)
	victim(old bool) (uint32, bool)
}

// oracle is a policy that sees every reference, which no pager does, and when
// each page will be referenced next, which nobody does.
type oracle interface {
	see(page uint32, next []int)
}

func (f *frames) cools() int { return f.count[cool] }

// setup is how the pager is set up around a policy.
type setup struct {
	limit int
	cool  int // cool pages to have before any is evicted
	low   int // evict when there is less room than this
	batch int
	fill  filler
}

// filler says what to fill with a page; streams is one.
type filler interface {
	next(page uint32) (lo, hi uint32)
}

// result counts what a run did.
type result struct {
	refs, faults, rescues, filled, evicted, stalls int

	waited float64 // µs that the guest waited
	worked float64 // µs that the evictor worked beside it
}

func (r result) cost() float64 { return (r.waited + r.worked) / float64(r.refs) }

// pager is the real one's way of using a policy, with the costs added up and
// nothing else done.
type pager struct {
	setup
	policy
	result
	used, stored []bool // by page: the guest has used it; the store has it
	batchPages   []uint32
}

// simulate lets the guest of a trace run in a window.
func simulate(t *trace, p policy, s setup) result {
	g := &pager{setup: s, policy: p, used: make([]bool, t.pages), stored: make([]bool, t.pages)}
	g.refs = len(t.refs)
	var next nextUses
	o, seeing := p.(oracle)
	if seeing {
		next = newNextUses(t)
	}
	for i, page := range t.refs {
		if seeing {
			next.advance(i, page)
		}
		g.used[page] = true
		switch g.state(page) {
		case cool:
			g.rescues++
			g.waited += rescueCost
			g.hold(page)
			g.settle(page, mapped)
			g.evict()
		case absent:
			g.fault(t, page)
			g.evict()
		}
		if seeing {
			o.see(page, next.of)
		}
	}
	return g.result
}

func (g *pager) fault(t *trace, page uint32) {
	g.faults++
	if g.room() == 0 { // the evictor didn't keep up
		g.stalls++
		before := g.worked
		g.evictBatch(1)
		g.waited += g.worked - before
		g.worked = before
	}
	lo, hi := g.fill.next(page)
	hi = min(hi, t.pages)
	for p := page; p > lo; p-- {
		if g.state(p-1) != absent {
			lo = p
			break
		}
	}
	for p := page + 1; p < hi; p++ {
		if g.state(p) != absent {
			hi = p
			break
		}
	}
	if n := uint32(g.room()); hi-lo > n { // keep the page, and what follows it
		lo = max(lo, page-min(page, n-1))
		hi = min(hi, lo+n)
	}
	g.filled += int(hi - lo)
	g.waited += faultCost + float64(hi-lo-1)*fillCost
	for p := lo; p < hi; p++ {
		g.take(p)
	}
	for p := lo; p < hi; p++ {
		g.settle(p, mapped)
	}
}

func (g *pager) evict() {
	for g.room() < g.low {
		g.evictBatch(g.batch)
	}
}

func (g *pager) evictBatch(n int) {
	g.batchPages = g.batchPages[:0]
	for want := max(g.setup.cool, n); g.cools() < want; {
		p, ok := g.chill(false)
		if !ok {
			break
		}
		g.batchPages = append(g.batchPages, p)
	}
	g.worked += zapRun*g.runs() + zapPage*float64(len(g.batchPages))
	g.batchPages = g.batchPages[:0]
	for range n {
		p, ok := g.victim(false)
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
		g.drop(p)
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

// advance says that reference i, to page, is done.
func (n nextUses) advance(i int, page uint32) { n.of[page] = n.after[i] }
