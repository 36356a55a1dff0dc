package policy

import "iter"

// MaxBatch is how many pages are evicted at once, at most. A fault that finds
// no room waits for one batch.
const MaxBatch = 32

// Frames is the book-keeping of a window, and its policy: which pages have a
// frame, in which state, and which page gives its frame up next. It makes no
// system calls, takes no locks and doesn't allocate. Pages are numbered from 0.
//
// A page is in one state at a time:
//
//	Absent   it has no frame: the secret store has its bytes
//	Busy     somebody is moving it; nobody else may
//	Mapped   it has a frame, and KVM may use it
//	Cool     it has a frame that is unmapped: the next to go
//
// A frame is in use in every state but Absent, so Used is all that can be
// exposed, and never more than Limit.
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
type Frames struct {
	slotOf    []uint32 // by page: its slot, or if absent ghost and a time of evictions, or 0
	slots     []slot   // slot 0 is no slot, then come the heads of the lists
	free      uint32   // the first free slot, linked by next
	used      int
	peak      int
	count     [numStates]int
	young     int    // pages in youngList
	evictions uint32 // of pages, since the start
	clock     uint32 // see Tick
}

// State of a page; see Frames.
type State uint8

// The states.
const (
	Absent State = iota
	Busy
	Mapped
	Cool
	numStates
)

// slot is a frame and its place in the list of its kind, oldest last.
type slot struct {
	page       uint32
	prev, next uint32
	since      uint32 // the clock when it came into its list
	state      State
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

// NewFrames is the book-keeping for a guest of so many pages and at most limit
// frames, both below 1<<31.
func NewFrames(pages, limit int) *Frames {
	f := &Frames{slotOf: make([]uint32, pages), slots: make([]slot, firstSlot+limit)}
	for _, l := range []uint32{youngList, provedList, coolList} {
		f.slots[l].prev, f.slots[l].next = l, l
	}
	for i := len(f.slots) - 1; i >= firstSlot; i-- {
		f.slots[i].next, f.free = f.free, uint32(i)
	}
	return f
}

// Limit is the most frames there may be.
func (f *Frames) Limit() int { return len(f.slots) - firstSlot }

// Used is how many frames there are.
func (f *Frames) Used() int { return f.used }

// Peak is the most that Used ever was.
func (f *Frames) Peak() int { return f.peak }

// Count is how many pages are in a state other than Absent.
func (f *Frames) Count(s State) int { return f.count[s] }

// Room is how many frames may still be taken.
func (f *Frames) Room() int { return f.Limit() - f.used }

// Resident yields the pages that have a frame, in no order.
func (f *Frames) Resident() iter.Seq[uint32] {
	return func(yield func(page uint32) bool) {
		for i := range f.slots[firstSlot:] {
			if s := &f.slots[firstSlot+i]; s.state != Absent && !yield(s.page) {
				return
			}
		}
	}
}

// State of a page.
func (f *Frames) State(page uint32) State {
	i := f.slotOf[page]
	if i&ghost != 0 {
		return Absent
	}
	return f.slots[i].state
}

// Take gives an absent page a frame and makes it busy. There must be room.
func (f *Frames) Take(page uint32) {
	i := f.free
	s := &f.slots[i]
	f.free = s.next
	*s = slot{page: page, state: Busy}
	if at := f.slotOf[page]; at&ghost != 0 {
		// The time wraps. A page that went 1<<31 evictions ago is proved
		// then, and no harm done.
		s.proved = (f.evictions-at)&^ghost < uint32(f.Limit())
	}
	f.slotOf[page] = i
	f.used++
	f.peak = max(f.peak, f.used)
	f.count[Busy]++
}

// Hold makes a mapped or cool page busy. Whoever settles it again uses it: a
// cool page is proved by that.
func (f *Frames) Hold(page uint32) {
	i := f.slotOf[page]
	s := &f.slots[i]
	f.unlink(i)
	s.proved = s.proved || s.state == Cool
	s.wanted = false
	f.set(i, Busy)
}

// Settle makes a Busy page Mapped or Cool, as the youngest of its kind. It
// reports whether somebody waits for the page.
func (f *Frames) Settle(page uint32, to State) (wanted bool) {
	i := f.slotOf[page]
	f.set(i, to)
	f.link(i)
	return f.slots[i].wanted
}

// Drop takes the frame of a busy page away. It reports whether somebody waits
// for the page.
func (f *Frames) Drop(page uint32) (wanted bool) {
	i := f.slotOf[page]
	s := &f.slots[i]
	wanted = s.wanted
	f.count[Busy]--
	f.evictions++
	f.slotOf[page] = f.evictions | ghost
	*s = slot{next: f.free}
	f.free = i
	f.used--
	return wanted
}

// Want notes that somebody waits for a busy page.
func (f *Frames) Want(page uint32) { f.slots[f.slotOf[page]].wanted = true }

// Chill makes the Mapped page Cool that is the next to go. With old it does so
// only for a page that has been mapped for two ticks.
func (f *Frames) Chill(old bool) (page uint32, ok bool) {
	first, then := uint32(provedList), uint32(youngList)
	if f.young > f.count[Mapped]/youngShare {
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
	f.set(i, Cool)
	f.link(i)
	return f.slots[i].page, true
}

// Victim makes the page that has been cool for longest busy, to be evicted.
// With old it does so only for a page that has been cool for two ticks.
func (f *Frames) Victim(old bool) (page uint32, ok bool) {
	i := f.oldest(coolList, old)
	if i == 0 {
		return 0, false
	}
	page = f.slots[i].page
	f.Hold(page)
	return page, true
}

// Tick moves the clock that old speaks of.
func (f *Frames) Tick() { f.clock++ }

// oldest is the slot at the end of a list, or 0.
func (f *Frames) oldest(list uint32, old bool) uint32 {
	i := f.slots[list].prev
	if i == list || old && f.clock-f.slots[i].since < 2 {
		return 0
	}
	return i
}

func (f *Frames) set(i uint32, to State) {
	s := &f.slots[i]
	f.count[s.state]--
	f.count[to]++
	s.state = to
}

// listOf is the list that a slot is in, or belongs in.
func listOf(s *slot) uint32 {
	switch {
	case s.state == Cool:
		return coolList
	case s.proved:
		return provedList
	}
	return youngList
}

// link puts slot i at the front of its list.
func (f *Frames) link(i uint32) {
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

func (f *Frames) unlink(i uint32) {
	s := &f.slots[i]
	if listOf(s) == youngList {
		f.young--
	}
	f.slots[s.prev].next, f.slots[s.next].prev = s.next, s.prev
	s.prev, s.next = 0, 0
}
