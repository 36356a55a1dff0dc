package window

// frames is the book-keeping of a window, and its policy: which pages have a
// frame, in which state, and which page gives its frame up next. It makes no
// system calls and takes no locks.
//
// A page is in one state at a time:
//
//	absent   it has no frame: the secret store has its bytes
//	busy     somebody is moving it; nobody else may
//	mapped   it has a frame, and KVM may use it
//	cool     it has a frame that is unmapped: the next to go
//
// No CPU tells us which pages a guest uses (no accessed bit of nested paging
// reaches user space on stock kernels). So a page that was mapped for long is
// unmapped first and keeps its frame for a while. If the guest still wants it,
// that is a fault which only has to map it again, and the page is young once
// more. Eviction takes the page that has been cool for longest.
//
// A frame is in use in every state but absent, so used is all that can be
// exposed, and never more than limit.
type frames struct {
	slotOf []uint32 // by page: its slot, or 0
	slots  []slot   // slot 0 is no slot, 1 and 2 are the heads of the lists
	free   uint32   // the first free slot, linked by next
	used   int
	peak   int
	count  [numStates]int
	clock  uint32 // see tick
}

type state uint8

const (
	absent state = iota
	busy
	mapped
	cool
	numStates
)

// slot is a frame and its place in the list of its state, oldest last.
type slot struct {
	page       uint32
	prev, next uint32
	since      uint32 // the clock when it came into its list
	state      state
	wanted     bool // while busy: somebody waits for it
}

const (
	mappedList = 1
	coolList   = 2
	firstSlot  = 3
)

// newFrames is the book-keeping for a guest of so many pages and at most limit
// frames.
func newFrames(pages, limit int) *frames {
	f := &frames{slotOf: make([]uint32, pages), slots: make([]slot, firstSlot+limit)}
	for _, l := range []uint32{mappedList, coolList} {
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
func (f *frames) state(page uint32) state { return f.slots[f.slotOf[page]].state }

// take gives an absent page a frame and makes it busy. There must be room.
func (f *frames) take(page uint32) {
	i := f.free
	s := &f.slots[i]
	f.free = s.next
	*s = slot{page: page, state: busy}
	f.slotOf[page] = i
	f.used++
	f.peak = max(f.peak, f.used)
	f.count[busy]++
}

// hold makes a mapped or cool page busy.
func (f *frames) hold(page uint32) {
	i := f.slotOf[page]
	f.unlink(i)
	f.set(i, busy)
	f.slots[i].wanted = false
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
	f.slotOf[page] = 0
	*s = slot{next: f.free}
	f.free = i
	f.used--
	return wanted
}

// want notes that somebody waits for a busy page.
func (f *frames) want(page uint32) { f.slots[f.slotOf[page]].wanted = true }

// chill makes the oldest mapped page cool. With old it does so only for a page
// that has been mapped since before the last tick.
func (f *frames) chill(old bool) (page uint32, ok bool) {
	i := f.oldest(mappedList, old)
	if i == 0 {
		return 0, false
	}
	f.unlink(i)
	f.set(i, cool)
	f.link(i)
	return f.slots[i].page, true
}

// victim makes the page that has been cool for longest busy, to be evicted.
// With old it does so only for a page that has been cool since before the last
// tick.
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

func (f *frames) oldest(list uint32, old bool) uint32 {
	i := f.slots[list].prev
	if i == list || old && f.slots[i].since == f.clock {
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

// link puts slot i at the front of the list of its state.
func (f *frames) link(i uint32) {
	list := uint32(mappedList)
	if f.slots[i].state == cool {
		list = coolList
	}
	s, head := &f.slots[i], &f.slots[list]
	s.since = f.clock
	s.prev, s.next = list, head.next
	f.slots[head.next].prev = i
	head.next = i
}

func (f *frames) unlink(i uint32) {
	s := &f.slots[i]
	f.slots[s.prev].next, f.slots[s.next].prev = s.next, s.prev
	s.prev, s.next = 0, 0
}
