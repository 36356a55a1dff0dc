package window

// frames is the book-keeping of a window, and its policy: which pages have a
// frame, in which state, and which page gives its frame up next. It makes no
// system calls, takes no locks and doesn't allocate.
//
// A page is in one state at a time:
//
//	absent   it has no frame: the secret store has its bytes
//	busy     somebody is moving it; nobody else may
//	mapped   it has a frame, and KVM may use it
//	cool     it has a frame that is unmapped: the next to go
//
// A frame is in use in every state but absent, so used is all that can be
// exposed, and never more than limit.
//
// No CPU tells us which pages a guest uses (no accessed bit of nested paging
// reaches user space on stock kernels). What we see is faults. Two kinds of
// them prove that a page is in regular use: a rescue, which is a fault on a
// page that has just been unmapped, and a fault on a page that was evicted not
// longer ago than it takes to replace the whole window. Proved pages have a
// list of their own, and pages that are used once, in a walk over all of RAM
// say, don't push them out: young pages go first while they are more than a
// share of what is mapped. Within a list the oldest goes first.
//
// This is the idea of 2Q (Johnson and Shasha, VLDB 1994), with the distance of
// a refault as Linux's mm/workingset.c has it in place of a list of ghosts.
// BenchmarkPolicies has the comparison that it won, and its figures.
type frames struct {
	slotOf    []uint32 // by page: its slot, or if absent ghost and a time of evictions, or 0
	slots     []slot   // slot 0 is no slot, then come the heads of the lists
	free      uint32   // the first free slot, linked by next
	used      int
	peak      int
	count     [numStates]int
	young     int    // pages in youngList
	evictions uint32 // of pages, since the start
	clock     uint32 // see tick
}

type state uint8

const (
	absent state = iota
	busy
	mapped
	cool
	numStates
)

// slot is a frame and its place in the list of its kind, oldest last.
type slot struct {
	page       uint32
	prev, next uint32
	since      uint32 // the clock when it came into its list
	state      state
	proved     bool // the guest has come back to the page
	wanted     bool // while busy: somebody waits for it
}

const (
	youngList  = 1
	provedList = 2
	coolList   = 3
	firstSlot  = 4
)

const (
	// ghost marks an absent page that has been in the window before. The
	// other bits are evictions when it went.
	ghost = 1 << 31

	// youngShare is the part of the mapped pages, as a divisor, that may be
	// young when proved ones want it all. So pages that the guest needs at
	// once all find room if they are at most three quarters of the window:
	// it gets on.
	youngShare = 4
)

// newFrames is the book-keeping for a guest of so many pages and at most limit
// frames, both below 1<<31.
func newFrames(pages, limit int) *frames {
	f := &frames{slotOf: make([]uint32, pages), slots: make([]slot, firstSlot+limit)}
	for _, l := range []uint32{youngList, provedList, coolList} {
		f.slots[l].prev, f.slots[l].next = l, l
	}
	for i := len(f.slots) - 1; i >= firstSlot; i-- {
		f.slots[i].next, f.free = f.free, uint32(i)
	}
	return f
}

// limit is the most frames there may be.
func (f *frames) limit() int { return len(f.slots) - firstSlot }

// room is how many frames may still be taken.
func (f *frames) room() int { return f.limit() - f.used }

// state of a page.
func (f *frames) state(page uint32) state {
	i := f.slotOf[page]
	if i&ghost != 0 {
		return absent
	}
	return f.slots[i].state
}

// take gives an absent page a frame and makes it busy. There must be room.
func (f *frames) take(page uint32) {
	i := f.free
	s := &f.slots[i]
	f.free = s.next
	*s = slot{page: page, state: busy}
	if at := f.slotOf[page]; at&ghost != 0 {
		// The time wraps. A page that went 1<<31 evictions ago is proved
		// then, and no harm done.
		s.proved = (f.evictions-at)&^ghost < uint32(f.limit())
	}
	f.slotOf[page] = i
	f.used++
	f.peak = max(f.peak, f.used)
	f.count[busy]++
}

// hold makes a mapped or cool page busy. Whoever settles it again uses it: a
// cool page is proved by that.
func (f *frames) hold(page uint32) {
	i := f.slotOf[page]
	s := &f.slots[i]
	f.unlink(i)
	s.proved = s.proved || s.state == cool
	s.wanted = false
	f.set(i, busy)
}

// settle makes a busy page mapped or cool, as the youngest of its kind. It
// reports whether somebody waits for the page.
func (f *frames) settle(page uint32, to state) (wanted bool) {
	i := f.slotOf[page]
	f.set(i, to)
	f.link(i)
	return f.slots[i].wanted
}

// drop takes the frame of a busy page away. It reports whether somebody waits
// for the page.
func (f *frames) drop(page uint32) (wanted bool) {
	i := f.slotOf[page]
	s := &f.slots[i]
	wanted = s.wanted
	f.count[busy]--
	f.evictions++
	f.slotOf[page] = f.evictions | ghost
	*s = slot{next: f.free}
	f.free = i
	f.used--
	return wanted
}

// want notes that somebody waits for a busy page.
func (f *frames) want(page uint32) { f.slots[f.slotOf[page]].wanted = true }

// chill makes the mapped page cool that is the next to go. With old it does so
// only for a page that has been mapped for two ticks.
func (f *frames) chill(old bool) (page uint32, ok bool) {
	first, then := uint32(provedList), uint32(youngList)
	if f.young > f.count[mapped]/youngShare {
		first, then = then, first
	}
	i := f.oldest(first, old)
	if i == 0 {
		i = f.oldest(then, old)
	}
	if i == 0 {
		return 0, false
	}
	f.unlink(i)
	f.set(i, cool)
	f.link(i)
	return f.slots[i].page, true
}

// victim makes the page that has been cool for longest busy, to be evicted.
// With old it does so only for a page that has been cool for two ticks.
func (f *frames) victim(old bool) (page uint32, ok bool) {
	i := f.oldest(coolList, old)
	if i == 0 {
		return 0, false
	}
	page = f.slots[i].page
	f.hold(page)
	return page, true
}

// tick moves the clock that old speaks of.
func (f *frames) tick() { f.clock++ }

// oldest is the slot at the end of a list, or 0.
func (f *frames) oldest(list uint32, old bool) uint32 {
	i := f.slots[list].prev
	if i == list || old && f.clock-f.slots[i].since < 2 {
		return 0
	}
	return i
}

func (f *frames) set(i uint32, to state) {
	s := &f.slots[i]
	f.count[s.state]--
	f.count[to]++
	s.state = to
}

// listOf is the list that a slot is in, or belongs in.
func listOf(s *slot) uint32 {
	switch {
	case s.state == cool:
		return coolList
	case s.proved:
		return provedList
	}
	return youngList
}

// link puts slot i at the front of its list.
func (f *frames) link(i uint32) {
	s := &f.slots[i]
	list := listOf(s)
	if list == youngList {
		f.young++
	}
	head := &f.slots[list]
	s.since = f.clock
	s.prev, s.next = list, head.next
	f.slots[head.next].prev = i
	head.next = i
}

func (f *frames) unlink(i uint32) {
	s := &f.slots[i]
	if listOf(s) == youngList {
		f.young--
	}
	f.slots[s.prev].next, f.slots[s.next].prev = s.next, s.prev
	s.prev, s.next = 0, 0
}
