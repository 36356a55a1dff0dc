package policy

import "iter"

// MaxBatch is the most pages that are evicted at once. A fault that finds no
// free frame waits for one batch.
const MaxBatch = 32

// Frames is the state of every page of a guest, and the replacement policy of
// its window. It makes no system calls, takes no locks and doesn't allocate.
// Pages are numbered from 0.
//
// A page is in one state at a time:
//
//	Absent    it has no frame
//	Busy      it has a frame, and one goroutine is filling, mapping or evicting it
//	Mapped    it has a frame, and KVM can use it
//	Unmapped  it has a frame that KVM can't reach: it will be evicted soon
//
// A page has a frame in every state but Absent. Frames never has more than
// Limit of them.
//
// # Policy
//
// Stock kernels don't pass the accessed bits of nested page tables on to user
// space. The only accesses that a pager sees are faults. A page is active, that
// is part of the working set, if one of two faults showed that the guest came
// back to it: a minor fault, on an Unmapped page, or a refault soon after the
// page's eviction, before as many others were evicted as the window has frames.
// Every other page is inactive. So a scan of all of RAM, which uses each page
// once, doesn't evict the working set.
//
// Inactive and active pages have a FIFO list each. The next page to unmap comes
// from the inactive list while that has more than a quarter of the mapped
// pages, and from the active list otherwise. Unmapped pages are evicted in
// first-in, first-out order.
//
// This is 2Q (Johnson and Shasha, VLDB 1994), with refault distances in place
// of its ghost list, as in Linux's mm/workingset.c. BenchmarkPolicies compares
// it with others.
type Frames struct {
	// slotOf has, by page, its slot. For an absent page it is a shadow entry,
	// or 0 if the page was never in the window.
	slotOf    []uint32
	slots     []slot // slot 0 is not used; then come the lists' heads
	free      uint32 // the first free slot; next links to the others
	used      int
	peak      int
	count     [numStates]int
	inactive  int    // length of the inactive list
	evictions uint32 // pages evicted since the start
	clock     uint32 // see Tick
}

// State is the state of a page.
type State uint8

// The states of a page; see Frames.
const (
	Absent State = iota
	Busy
	Mapped
	Unmapped
	numStates
)

// slot is a frame and its place in a list. The oldest of a list is its last.
type slot struct {
	page       uint32
	prev, next uint32
	since      uint32 // the clock when the page came into its list
	state      State
	active     bool
	waited     bool // a fault waits for the page, which is busy
}

// The heads of the lists, as slots.
const (
	inactiveList = 1
	activeList   = 2
	unmappedList = 3
	firstSlot    = 4
)

const (
	// shadow is set in the entry of an absent page that was in the window
	// before. The other bits are the value of evictions when it was evicted.
	shadow = 1 << 31

	// inactiveShare is the divisor for the share of the mapped pages that the
	// inactive list keeps when active pages could fill the window. An
	// instruction completes only with all of its pages mapped. New pages of
	// it are inactive, so the share lets it complete if it needs at most
	// three quarters of the window.
	inactiveShare = 4
)

// NewFrames returns the state of a guest of so many pages, all of them absent,
// with at most limit frames. Both are below 1<<31.
func NewFrames(pages, limit int) *Frames {
	f := &Frames{slotOf: make([]uint32, pages), slots: make([]slot, firstSlot+limit)}
	for _, l := range []uint32{inactiveList, activeList, unmappedList} {
		f.slots[l].prev, f.slots[l].next = l, l
	}
	for i := len(f.slots) - 1; i >= firstSlot; i-- {
		f.slots[i].next, f.free = f.free, uint32(i)
	}
	return f
}

// Limit returns the most frames that there may be.
func (f *Frames) Limit() int { return len(f.slots) - firstSlot }

// Used returns the number of frames.
func (f *Frames) Used() int { return f.used }

// Peak returns the most frames that there were at any time.
func (f *Frames) Peak() int { return f.peak }

// Count returns the number of pages in a state other than Absent.
func (f *Frames) Count(s State) int { return f.count[s] }

// Room returns the number of frames that can still be allocated.
func (f *Frames) Room() int { return f.Limit() - f.used }

// Resident yields the pages that have a frame, in no particular order.
func (f *Frames) Resident() iter.Seq[uint32] {
	return func(yield func(page uint32) bool) {
		for i := range f.slots[firstSlot:] {
			if s := &f.slots[firstSlot+i]; s.state != Absent && !yield(s.page) {
				return
			}
		}
	}
}

// State returns the state of a page.
func (f *Frames) State(page uint32) State {
	i := f.slotOf[page]
	if i&shadow != 0 {
		return Absent
	}
	return f.slots[i].state
}

// Allocate gives an absent page a frame and makes it busy. Room must not be 0.
func (f *Frames) Allocate(page uint32) {
	i := f.free
	s := &f.slots[i]
	f.free = s.next
	*s = slot{page: page, state: Busy}
	if e := f.slotOf[page]; e&shadow != 0 {
		// The refault distance. It wraps: a page that was evicted about
		// 1<<31 evictions ago counts as active, which does no harm.
		s.active = (f.evictions-e)&^shadow < uint32(f.Limit())
	}
	f.slotOf[page] = i
	f.used++
	f.peak = max(f.peak, f.used)
	f.count[Busy]++
}

// Isolate takes a mapped or unmapped page off its list and makes it busy. An
// unmapped page becomes active: if Map follows, the guest had a minor fault on it.
func (f *Frames) Isolate(page uint32) {
	i := f.slotOf[page]
	s := &f.slots[i]
	f.unlink(i)
	s.active = s.active || s.state == Unmapped
	s.waited = false
	f.set(i, Busy)
}

// Map makes a busy page mapped, as the newest of its list.
func (f *Frames) Map(page uint32) {
	i := f.slotOf[page]
	f.set(i, Mapped)
	f.link(i)
}

// Free takes the frame from a busy page, which becomes absent. It reports
// whether a fault waits for the page.
func (f *Frames) Free(page uint32) (waited bool) {
	i := f.slotOf[page]
	s := &f.slots[i]
	waited = s.waited
	f.count[Busy]--
	f.evictions++
	f.slotOf[page] = f.evictions | shadow
	*s = slot{next: f.free}
	f.free = i
	f.used--
	return waited
}

// AddWaiter records that a fault waits for a busy page.
func (f *Frames) AddWaiter(page uint32) { f.slots[f.slotOf[page]].waited = true }

// Unmap chooses the next mapped page to unmap and makes it unmapped. With aged,
// it chooses only a page that has been mapped for two ticks.
func (f *Frames) Unmap(aged bool) (page uint32, ok bool) {
	first, then := uint32(activeList), uint32(inactiveList)
	if f.inactive > f.count[Mapped]/inactiveShare {
		first, then = then, first
	}
	i := f.oldest(first, aged)
	if i == 0 {
		i = f.oldest(then, aged)
	}
	if i == 0 {
		return 0, false
	}
	f.unlink(i)
	f.set(i, Unmapped)
	f.link(i)
	return f.slots[i].page, true
}

// Victim chooses the next unmapped page to evict and makes it busy. With aged,
// it chooses only a page that has been unmapped for two ticks.
func (f *Frames) Victim(aged bool) (page uint32, ok bool) {
	i := f.oldest(unmappedList, aged)
	if i == 0 {
		return 0, false
	}
	page = f.slots[i].page
	f.Isolate(page)
	return page, true
}

// Tick advances the clock by which Unmap and Victim choose aged pages.
func (f *Frames) Tick() { f.clock++ }

// oldest returns the last slot of a list, or 0 if there is none to choose.
func (f *Frames) oldest(list uint32, aged bool) uint32 {
	i := f.slots[list].prev
	if i == list || aged && f.clock-f.slots[i].since < 2 {
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

// listOf returns the list of a slot whose page is mapped or unmapped.
func listOf(s *slot) uint32 {
	switch {
	case s.state == Unmapped:
		return unmappedList
	case s.active:
		return activeList
	}
	return inactiveList
}

// link puts slot i at the front of its list.
func (f *Frames) link(i uint32) {
	s := &f.slots[i]
	list := listOf(s)
	if list == inactiveList {
		f.inactive++
	}
	head := &f.slots[list]
	s.since = f.clock
	s.prev, s.next = list, head.next
	f.slots[head.next].prev = i
	head.next = i
}

func (f *Frames) unlink(i uint32) {
	s := &f.slots[i]
	if listOf(s) == inactiveList {
		f.inactive--
	}
	f.slots[s.prev].next, f.slots[s.next].prev = s.next, s.prev
	s.prev, s.next = 0, 0
}
