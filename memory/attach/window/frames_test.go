package window

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// model is what frames must be seen to be, told in the simplest way: what each
// page is, and when it became that.
type model struct {
	limit, peak, clock int
	pages              []modelPage
}

type modelPage struct {
	state  state
	wanted bool
	since  int
}

func (m *model) used() (n int) { return len(m.pages) - m.count(absent) }

func (m *model) count(s state) (n int) {
	for _, p := range m.pages {
		if p.state == s {
			n++
		}
	}
	return n
}

// old says whether a page has been in state s for two ticks.
func (m *model) old(s state) bool {
	for _, p := range m.pages {
		if p.state == s && p.since+2 <= m.clock {
			return true
		}
	}
	return false
}

func (m *model) set(page uint32, s state) {
	m.pages[page] = modelPage{state: s, since: m.clock}
	m.peak = max(m.peak, m.used())
}

// bench is frames under test, with the model beside it. Its operations do
// nothing where the caller of frames may not do them.
type bench struct {
	t testing.TB
	f *frames
	m model
}

func newBench(t testing.TB, pages, limit int) *bench {
	return &bench{t, newFrames(pages, limit), model{limit: limit, pages: make([]modelPage, pages)}}
}

func (b *bench) take(page uint32) {
	if b.m.pages[page].state == absent && b.m.used() < b.m.limit {
		b.f.take(page)
		b.m.set(page, busy)
	}
}

func (b *bench) hold(page uint32) {
	if s := b.m.pages[page].state; s == mapped || s == cool {
		b.f.hold(page)
		b.m.set(page, busy)
	}
}

func (b *bench) want(page uint32) {
	if b.m.pages[page].state == busy {
		b.f.want(page)
		b.m.pages[page].wanted = true
	}
}

func (b *bench) settle(page uint32, to state) {
	if p := b.m.pages[page]; p.state == busy {
		if got := b.f.settle(page, to); got != p.wanted {
			b.t.Fatalf("settle(%d): wanted %v, want %v", page, got, p.wanted)
		}
		b.m.set(page, to)
	}
}

func (b *bench) drop(page uint32) {
	if p := b.m.pages[page]; p.state == busy {
		if got := b.f.drop(page); got != p.wanted {
			b.t.Fatalf("drop(%d): wanted %v, want %v", page, got, p.wanted)
		}
		b.m.set(page, absent)
	}
}

// moves checks one step of chill or victim: there is one exactly if a page is
// in the state from (for two ticks, if old), and it is such a page.
func (b *bench) moves(step func(bool) (uint32, bool), old bool, from, to state) (page uint32, ok bool) {
	want := b.m.count(from) > 0
	if old {
		want = b.m.old(from)
	}
	page, ok = step(old)
	if ok != want {
		b.t.Fatalf("from state %d, old %v: ok is %v, want %v", from, old, ok, want)
	}
	if !ok {
		return 0, false
	}
	if p := b.m.pages[page]; p.state != from || old && p.since+2 > b.m.clock {
		b.t.Fatalf("page %d was taken from state %d, old %v; it is %+v at %d", page, from, old, p, b.m.clock)
	}
	b.m.set(page, to)
	return page, true
}

func (b *bench) chill(old bool) (uint32, bool)  { return b.moves(b.f.chill, old, mapped, cool) }
func (b *bench) victim(old bool) (uint32, bool) { return b.moves(b.f.victim, old, cool, busy) }

func (b *bench) tick() {
	b.f.tick()
	b.m.clock++
}

// check compares all that frames says with the model, and its lists with
// themselves.
func (b *bench) check() {
	b.t.Helper()
	f, m := b.f, &b.m
	if f.limit() != m.limit || f.used != m.used() || f.room() != m.limit-m.used() || f.peak != m.peak {
		b.t.Fatalf("limit %d, used %d, room %d, peak %d; want %d, %d, %d, %d",
			f.limit(), f.used, f.room(), f.peak, m.limit, m.used(), m.limit-m.used(), m.peak)
	}
	if f.peak > f.limit() {
		b.t.Fatalf("peak %d is above the limit %d", f.peak, f.limit())
	}
	for s := busy; s < numStates; s++ {
		if f.count[s] != m.count(s) {
			b.t.Fatalf("count[%d] = %d, want %d", s, f.count[s], m.count(s))
		}
	}
	for p := range m.pages {
		if got, want := f.state(uint32(p)), m.pages[p].state; got != want {
			b.t.Fatalf("page %d is in state %d, want %d", p, got, want)
		}
	}
	checkSlots(b.t, f)
}

// checkSlots holds that every slot is in exactly one place: a list, the free
// list, or with the one who moves its page.
func checkSlots(t testing.TB, f *frames) {
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
			if (s.state == cool) != (list == coolList) || s.state == busy || s.proved != (list == provedList) && list != coolList {
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
	if n := length; n[youngList] != f.young || n[youngList]+n[provedList] != f.count[mapped] || n[coolList] != f.count[cool] {
		t.Fatalf("the lists have %v, counted %d young, %d mapped, %d cool", n, f.young, f.count[mapped], f.count[cool])
	}
	free := 0
	for i := f.free; i != 0; i = f.slots[i].next {
		visit(i)
		if f.slots[i].state != absent {
			t.Fatalf("free slot %d is in state %d", i, f.slots[i].state)
		}
		free++
	}
	if free != f.room() {
		t.Fatalf("%d slots are free, but there is room for %d", free, f.room())
	}
	for i := uint32(firstSlot); int(i) < len(f.slots); i++ {
		if !seen[i] {
			if f.slots[i].state != busy {
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
		b.settle(uint32(p), mapped)
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
	if b.f.used != 0 || b.f.room() != b.f.limit() {
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
			b.settle(page, mapped)
		case 3:
			b.hold(page)
		case 4:
			b.settle(page, mapped)
		case 5:
			b.settle(page, cool)
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

// TestFramesAge holds the promise of --window-age: a page that nobody wants
// has gone after four ticks, one that came later stays its time, and so does
// one that is wanted again.
func TestFramesAge(t *testing.T) {
	b := newBench(t, 8, 8)
	fill := func(page uint32) {
		b.take(page)
		b.settle(page, mapped)
	}
	round := func() (gone []uint32) {
		b.tick()
		for ok := true; ok; {
			_, ok = b.chill(true)
		}
		for {
			p, ok := b.victim(true)
			if !ok {
				break
			}
			b.drop(p)
			gone = append(gone, p)
		}
		b.check()
		return gone
	}
	for _, p := range []uint32{1, 2, 3} {
		fill(p)
	}
	for i, want := range []struct {
		gone []uint32
		cool int
	}{{nil, 0}, {nil, 3}, {nil, 2}, {[]uint32{1, 3}, 2}, {nil, 2}, {[]uint32{4, 2}, 0}} {
		gone := round()
		slices.Sort(gone)
		slices.Sort(want.gone)
		if !slices.Equal(gone, want.gone) || b.f.count[cool] != want.cool {
			t.Fatalf("tick %d: %v gone, %d cool; want %v, %d", i+1, gone, b.f.count[cool], want.gone, want.cool)
		}
		if i == 1 { // page 2 is wanted again, and 4 is new
			b.hold(2)
			b.settle(2, mapped)
			fill(4)
		}
	}
}

// TestFramesOrder tells which pages go first, by those that are left in a
// window of 8.
func TestFramesOrder(t *testing.T) {
	type deed = func(*bench)
	evict := func(b *bench) {
		b.chill(false)
		if p, ok := b.victim(false); ok {
			b.drop(p)
		}
	}
	use := func(pages ...uint32) deed {
		return func(b *bench) {
			for _, p := range pages {
				switch b.f.state(p) {
				case absent:
					if b.f.room() == 0 {
						evict(b)
					}
					b.take(p)
					b.settle(p, mapped)
				case cool:
					b.hold(p)
					b.settle(p, mapped)
				}
			}
		}
	}
	access := func(page uint32) deed { // by a device
		return func(b *bench) {
			b.hold(page)
			b.settle(page, mapped)
		}
	}
	chill := func(n int) deed {
		return func(b *bench) {
			for range n {
				b.chill(false)
			}
		}
	}
	scan := use(20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31)
	for _, c := range []struct {
		name  string
		deeds []deed
		want  []uint32
	}{
		{"first in, first out", []deed{use(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}, []uint32{2, 3, 4, 5, 6, 7, 8, 9}},
		{"a scan takes all that is not proved", []deed{use(0, 1, 2, 3), scan}, []uint32{24, 25, 26, 27, 28, 29, 30, 31}},
		{"rescued pages outlast a scan", []deed{use(0, 1, 2, 3), chill(3), use(0, 1), scan}, []uint32{0, 1, 26, 27, 28, 29, 30, 31}},
		{"so do pages that come back soon", []deed{
			use(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), use(0, 1), scan}, []uint32{0, 1, 26, 27, 28, 29, 30, 31}},
		{"but not pages that come back late", []deed{
			use(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17), use(0, 1), scan}, []uint32{24, 25, 26, 27, 28, 29, 30, 31}},
		{"nor a mapped page that a device uses", []deed{
			use(0, 1, 2, 3), access(0), scan}, []uint32{24, 25, 26, 27, 28, 29, 30, 31}},
		{"the young keep their share", []deed{
			use(0, 1, 2, 3, 4, 5, 6, 7), chill(8), use(0, 1, 2, 3, 4, 5, 6, 7), use(20, 21, 22, 23)}, []uint32{3, 4, 5, 6, 7, 21, 22, 23}},
	} {
		b := newBench(t, 40, 8)
		for _, do := range c.deeds {
			do(b)
			b.check()
		}
		var left []uint32
		for p := range uint32(40) {
			if b.f.state(p) != absent {
				left = append(left, p)
			}
		}
		if !slices.Equal(left, c.want) {
			t.Errorf("%s: %v are left, want %v", c.name, left, c.want)
		}
	}
}

// TestFramesSettle holds that a guest gets on: whatever was before, pages that
// it needs at once, up to three quarters of the window, are all there after a
// few rounds of faults on them.
func TestFramesSettle(t *testing.T) {
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		limit := 4 + rng.IntN(60)
		pages := limit * (1 + rng.IntN(4))
		f := newFrames(pages, limit)
		use := func(page uint32) (fault bool) {
			switch f.state(page) {
			case mapped:
				return false
			case cool:
				f.hold(page)
			case absent:
				if f.room() == 0 {
					if f.count[cool] == 0 {
						f.chill(false)
					}
					p, _ := f.victim(false)
					f.drop(p)
				}
				f.take(page)
			}
			f.settle(page, mapped)
			return true
		}
		for range 20 * limit {
			use(rng.Uint32N(uint32(pages)))
			if rng.IntN(4) == 0 {
				f.chill(false)
			}
		}
		need := rng.Perm(pages)[:1+rng.IntN(limit*3/4)]
		rounds, faults := 0, 1
		for ; faults > 0 && rounds < 10; rounds++ {
			faults = 0
			for _, p := range need {
				if use(uint32(p)) {
					faults++
				}
			}
		}
		if faults > 0 {
			t.Fatalf("seed %d: %d pages of %d in a window of %d: still %d faults in round %d", seed, len(need), pages, limit, faults, rounds)
		}
	}
}

// TestFramesDoNotAllocate: the fault path has no time for it.
func TestFramesDoNotAllocate(t *testing.T) {
	f := newFrames(64, 16)
	page := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		page = (page + 1) % 64
		if f.state(page) != absent {
			return
		}
		if f.room() == 0 {
			f.chill(false)
			p, _ := f.victim(false)
			f.drop(p)
		}
		f.take(page)
		f.settle(page, mapped)
	}); n != 0 {
		t.Errorf("%v allocations a fault, want 0", n)
	}
}
