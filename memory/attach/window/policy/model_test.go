package policy

import (
	"math/rand/v2"
	"testing"
)

// model is what frames must be seen to be, told in the simplest way: what each
// page is, and when it became that.
type model struct {
	limit, peak, clock int
	pages              []modelPage
}

type modelPage struct {
	state  State
	wanted bool
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

// old says whether a page has been in state s for two ticks.
func (m *model) old(s State) bool {
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

// bench is frames under test, with the model beside it. Its operations do
// nothing where the caller of frames may not do them.
type bench struct {
	t testing.TB
	f *Frames
	m model
}

func newBench(t testing.TB, pages, limit int) *bench {
	return &bench{t, NewFrames(pages, limit), model{limit: limit, pages: make([]modelPage, pages)}}
}

func (b *bench) take(page uint32) {
	if b.m.pages[page].state == Absent && b.m.used() < b.m.limit {
		b.f.Take(page)
		b.m.set(page, Busy)
	}
}

func (b *bench) hold(page uint32) {
	if s := b.m.pages[page].state; s == Mapped || s == Cool {
		b.f.Hold(page)
		b.m.set(page, Busy)
	}
}

func (b *bench) want(page uint32) {
	if b.m.pages[page].state == Busy {
		b.f.Want(page)
		b.m.pages[page].wanted = true
	}
}

func (b *bench) settle(page uint32, to State) {
	if p := b.m.pages[page]; p.state == Busy {
		if got := b.f.Settle(page, to); got != p.wanted {
			b.t.Fatalf("settle(%d): wanted %v, want %v", page, got, p.wanted)
		}
		b.m.set(page, to)
	}
}

func (b *bench) drop(page uint32) {
	if p := b.m.pages[page]; p.state == Busy {
		if got := b.f.Drop(page); got != p.wanted {
			b.t.Fatalf("drop(%d): wanted %v, want %v", page, got, p.wanted)
		}
		b.m.set(page, Absent)
	}
}

// moves checks one step of chill or victim: there is one exactly if a page is
// in the state from (for two ticks, if old), and it is such a page.
func (b *bench) moves(step func(bool) (uint32, bool), old bool, from, to State) (page uint32, ok bool) {
	want := b.m.count(from) > 0
	if old {
		want = b.m.old(from)
	}
	page, ok = step(old)
	if ok != want {
		b.t.Fatalf("from State %d, old %v: ok is %v, want %v", from, old, ok, want)
	}
	if !ok {
		return 0, false
	}
	if p := b.m.pages[page]; p.state != from || old && p.since+2 > b.m.clock {
		b.t.Fatalf("page %d was taken from State %d, old %v; it is %+v at %d", page, from, old, p, b.m.clock)
	}
	b.m.set(page, to)
	return page, true
}

func (b *bench) chill(old bool) (uint32, bool)  { return b.moves(b.f.Chill, old, Mapped, Cool) }
func (b *bench) victim(old bool) (uint32, bool) { return b.moves(b.f.Victim, old, Cool, Busy) }

func (b *bench) tick() {
	b.f.Tick()
	b.m.clock++
}

// check compares all that frames says with the model, and its lists with
// themselves.
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

// checkSlots holds that every slot is in exactly one place: a list, the free
// list, or with the one who moves its page.
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
	for list := uint32(youngList); list < firstSlot; list++ {
		before, prev := f.clock, list
		for i := f.slots[list].next; i != list; i = f.slots[i].next {
			visit(i)
			own(i)
			s := &f.slots[i]
			if (s.state == Cool) != (list == coolList) || s.state == Busy || s.proved != (list == provedList) && list != coolList {
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
	if n := length; n[youngList] != f.young || n[youngList]+n[provedList] != f.count[Mapped] || n[coolList] != f.count[Cool] {
		t.Fatalf("the lists have %v, counted %d young, %d mapped, %d cool", n, f.young, f.count[Mapped], f.count[Cool])
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
		if i != 0 && i&ghost == 0 && !pages[p] {
			t.Fatalf("page %d has slot %d, which doesn't have it", p, i)
		}
	}
}

// empty settles what is busy and evicts everything, as the end of a run does.
func (b *bench) empty() {
	for p := range b.m.pages {
		b.settle(uint32(p), Mapped)
	}
	for ok := true; ok; {
		_, ok = b.chill(false)
	}
	for {
		p, ok := b.victim(false)
		if !ok {
			break
		}
		b.drop(p)
	}
	b.check()
	if b.f.used != 0 || b.f.Room() != b.f.Limit() {
		b.t.Fatalf("%d frames are still used after all was evicted", b.f.used)
	}
}

// run does what the bytes of script say, two bytes an operation.
func (b *bench) run(script []byte) {
	for ; len(script) >= 2; script = script[2:] {
		page := uint32(script[1]) % uint32(len(b.m.pages))
		switch script[0] % 12 {
		case 0:
			b.take(page)
		case 1, 2: // a fill, and a rescue
			b.take(page)
			b.hold(page)
			b.settle(page, Mapped)
		case 3:
			b.hold(page)
		case 4:
			b.settle(page, Mapped)
		case 5:
			b.settle(page, Cool)
		case 6:
			b.drop(page)
		case 7:
			b.want(page)
		case 8:
			b.chill(script[1]%4 == 0)
		case 9:
			b.victim(script[1]%4 == 0)
		case 10: // an eviction
			b.chill(false)
			if p, ok := b.victim(false); ok {
				b.drop(p)
			}
		case 11:
			b.tick()
		}
		b.check()
	}
	b.empty()
}

// FuzzFrames holds that frames does what the model does, whatever the order of
// operations: never above the limit, no page in two places, none lost.
func FuzzFrames(f *testing.F) {
	f.Add(uint8(4), uint8(2), []byte{1, 0, 1, 1, 8, 1, 9, 1, 6, 0, 1, 2})
	f.Add(uint8(8), uint8(8), []byte{1, 0, 11, 0, 1, 1, 8, 0, 8, 4, 11, 0, 9, 0, 7, 0, 6, 0})
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
