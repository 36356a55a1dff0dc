package policy

import (
	"math/rand/v2"
	"testing"
)

// model is a simple form of Frames: the state of each page, and since when.
type model struct {
	limit, peak, clock int
	pages              []modelPage
}

type modelPage struct {
	state  State
	waited bool
	since  int
}

func (m *model) used() (n int) { return len(m.pages) - m.count(Absent) }

func (m *model) count(s State) (n int) {
	for _, p := range m.pages {
		if p.state == s {
			n++
		}
	}
	return n
}

// aged reports whether a page has been in state s for two ticks.
func (m *model) aged(s State) bool {
	for _, p := range m.pages {
		if p.state == s && p.since+2 <= m.clock {
			return true
		}
	}
	return false
}

func (m *model) set(page uint32, s State) {
	m.pages[page] = modelPage{state: s, since: m.clock}
	m.peak = max(m.peak, m.used())
}

// bench is Frames under test and its model. An operation does nothing where the
// caller of Frames may not do it.
type bench struct {
	t testing.TB
	f *Frames
	m model
}

func newBench(t testing.TB, pages, limit int) *bench {
	return &bench{t, NewFrames(pages, limit), model{limit: limit, pages: make([]modelPage, pages)}}
}

func (b *bench) allocate(page uint32) {
	if b.m.pages[page].state == Absent && b.m.used() < b.m.limit {
		b.f.Allocate(page)
		b.m.set(page, Busy)
	}
}

func (b *bench) isolate(page uint32) {
	if s := b.m.pages[page].state; s == Mapped || s == Unmapped {
		b.f.Isolate(page)
		b.m.set(page, Busy)
	}
}

func (b *bench) addWaiter(page uint32) {
	if b.m.pages[page].state == Busy {
		b.f.AddWaiter(page)
		b.m.pages[page].waited = true
	}
}

func (b *bench) mapPage(page uint32) {
	if b.m.pages[page].state == Busy {
		b.f.Map(page)
		b.m.set(page, Mapped)
	}
}

func (b *bench) free(page uint32) {
	if p := b.m.pages[page]; p.state == Busy {
		if got := b.f.Free(page); got != p.waited {
			b.t.Fatalf("Free(%d): waited %v, want %v", page, got, p.waited)
		}
		b.m.set(page, Absent)
	}
}

// moves checks a page that Unmap or Victim chose. It must have been in the state from
// (with aged, for two ticks), and there must be a choice if and only if a page was.
func (b *bench) moves(step func(bool) (uint32, bool), aged bool, from, to State) (page uint32, ok bool) {
	want := b.m.count(from) > 0
	if aged {
		want = b.m.aged(from)
	}
	page, ok = step(aged)
	if ok != want {
		b.t.Fatalf("from State %d, aged %v: ok is %v, want %v", from, aged, ok, want)
	}
	if !ok {
		return 0, false
	}
	if p := b.m.pages[page]; p.state != from || aged && p.since+2 > b.m.clock {
		b.t.Fatalf("page %d was taken from State %d, aged %v; it is %+v at %d", page, from, aged, p, b.m.clock)
	}
	b.m.set(page, to)
	return page, true
}

func (b *bench) unmap(aged bool) (uint32, bool)  { return b.moves(b.f.Unmap, aged, Mapped, Unmapped) }
func (b *bench) victim(aged bool) (uint32, bool) { return b.moves(b.f.Victim, aged, Unmapped, Busy) }

func (b *bench) tick() {
	b.f.Tick()
	b.m.clock++
}

// check compares what Frames returns with the model, and checks its lists.
func (b *bench) check() {
	b.t.Helper()
	f, m := b.f, &b.m
	if f.Limit() != m.limit || f.used != m.used() || f.Room() != m.limit-m.used() || f.peak != m.peak {
		b.t.Fatalf("limit %d, used %d, room %d, peak %d; want %d, %d, %d, %d",
			f.Limit(), f.used, f.Room(), f.peak, m.limit, m.used(), m.limit-m.used(), m.peak)
	}
	if f.peak > f.Limit() {
		b.t.Fatalf("peak %d is above the limit %d", f.peak, f.Limit())
	}
	for s := Busy; s < numStates; s++ {
		if f.count[s] != m.count(s) {
			b.t.Fatalf("count[%d] = %d, want %d", s, f.count[s], m.count(s))
		}
	}
	for p := range m.pages {
		if got, want := f.State(uint32(p)), m.pages[p].state; got != want {
			b.t.Fatalf("page %d is in state %d, want %d", p, got, want)
		}
	}
	resident := 0
	for p := range f.Resident() {
		if m.pages[p].state == Absent {
			b.t.Fatalf("page %d is absent and said to be resident", p)
		}
		resident++
	}
	if resident != m.used() {
		b.t.Fatalf("%d pages are resident, want %d", resident, m.used())
	}
	checkSlots(b.t, f)
}

// checkSlots checks that every slot is in exactly one list, or free, or its page
// busy.
func checkSlots(t testing.TB, f *Frames) {
	t.Helper()
	seen := make([]bool, len(f.slots))
	visit := func(i uint32) {
		if int(i) >= len(f.slots) || i < firstSlot || seen[i] {
			t.Fatalf("slot %d is no slot, or in two places", i)
		}
		seen[i] = true
	}
	pages := make([]bool, len(f.slotOf))
	own := func(i uint32) {
		p := f.slots[i].page
		if pages[p] || f.slotOf[p] != i {
			t.Fatalf("slot %d has page %d, whose slot is %d; seen before: %v", i, p, f.slotOf[p], pages[p])
		}
		pages[p] = true
	}
	length := [firstSlot]int{}
	for list := uint32(inactiveList); list < firstSlot; list++ {
		before, prev := f.clock, list
		for i := f.slots[list].next; i != list; i = f.slots[i].next {
			visit(i)
			own(i)
			s := &f.slots[i]
			if (s.state == Unmapped) != (list == unmappedList) || s.state == Busy || s.active != (list == activeList) && list != unmappedList {
				t.Fatalf("list %d has slot %d: %+v", list, i, *s)
			}
			if s.prev != prev || s.since > before {
				t.Fatalf("list %d has slot %d: %+v; want prev %d, since at most %d", list, i, *s, prev, before)
			}
			length[list]++
			before, prev = s.since, i
		}
		if f.slots[list].prev != prev {
			t.Fatalf("list %d ends in %d, want %d", list, f.slots[list].prev, prev)
		}
	}
	if n := length; n[inactiveList] != f.inactive || n[inactiveList]+n[activeList] != f.count[Mapped] || n[unmappedList] != f.count[Unmapped] {
		t.Fatalf("the lists have %v, counted %d inactive, %d mapped, %d unmapped", n, f.inactive, f.count[Mapped], f.count[Unmapped])
	}
	free := 0
	for i := f.free; i != 0; i = f.slots[i].next {
		visit(i)
		if f.slots[i].state != Absent {
			t.Fatalf("free slot %d is in state %d", i, f.slots[i].state)
		}
		free++
	}
	if free != f.Room() {
		t.Fatalf("%d slots are free, but there is room for %d", free, f.Room())
	}
	for i := uint32(firstSlot); int(i) < len(f.slots); i++ {
		if !seen[i] {
			if f.slots[i].state != Busy {
				t.Fatalf("slot %d is lost: %+v", i, f.slots[i])
			}
			own(i)
		}
	}
	if s := f.slots[0]; s != (slot{}) {
		t.Fatalf("slot 0 is no slot, but has %+v", s)
	}
	for p, i := range f.slotOf {
		if i != 0 && i&shadow == 0 && !pages[p] {
			t.Fatalf("page %d has slot %d, which doesn't have it", p, i)
		}
	}
}

// empty maps the busy pages and evicts all pages.
func (b *bench) empty() {
	for p := range b.m.pages {
		b.mapPage(uint32(p))
	}
	for ok := true; ok; {
		_, ok = b.unmap(false)
	}
	for {
		p, ok := b.victim(false)
		if !ok {
			break
		}
		b.free(p)
	}
	b.check()
	if b.f.used != 0 || b.f.Room() != b.f.Limit() {
		b.t.Fatalf("%d frames are still used after all was evicted", b.f.used)
	}
}

// run does the operations of script, two bytes each.
func (b *bench) run(script []byte) {
	for ; len(script) >= 2; script = script[2:] {
		page := uint32(script[1]) % uint32(len(b.m.pages))
		switch script[0] % 11 {
		case 0:
			b.allocate(page)
		case 1, 2: // a major or minor fault
			b.allocate(page)
			b.isolate(page)
			b.mapPage(page)
		case 3:
			b.isolate(page)
		case 4:
			b.mapPage(page)
		case 5:
			b.free(page)
		case 6:
			b.addWaiter(page)
		case 7:
			b.unmap(script[1]%4 == 0)
		case 8:
			b.victim(script[1]%4 == 0)
		case 9: // an eviction
			b.unmap(false)
			if p, ok := b.victim(false); ok {
				b.free(p)
			}
		case 10:
			b.tick()
		}
		b.check()
	}
	b.empty()
}

// FuzzFrames checks that Frames behaves as the model in any order of operations:
// it never exceeds the limit, no page is in two places, and none is lost.
func FuzzFrames(f *testing.F) {
	f.Add(uint8(4), uint8(2), []byte{1, 0, 1, 1, 7, 1, 8, 1, 5, 0, 1, 2})
	f.Add(uint8(8), uint8(8), []byte{1, 0, 10, 0, 1, 1, 7, 0, 7, 4, 10, 0, 8, 0, 6, 0, 5, 0})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 16 {
		script := make([]byte, 400)
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		f.Add(uint8(rng.Uint32()), uint8(rng.Uint32()), script)
	}
	f.Fuzz(func(t *testing.T, pages, limit uint8, script []byte) {
		newBench(t, int(pages%32)+1, int(limit%16)).run(script[:min(len(script), 1024)])
	})
}
