package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFramesAge holds the promise of --window-age: a page that nobody wants
// has gone after four ticks, one that came later stays its time, and so does
// one that is wanted again.
func TestFramesAge(t *testing.T) {
	b := newBench(t, 8, 8)
	fill := func(page uint32) {
		b.take(page)
		b.settle(page, Mapped)
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
		if !slices.Equal(gone, want.gone) || b.f.count[Cool] != want.cool {
			t.Fatalf("tick %d: %v gone, %d cool; want %v, %d", i+1, gone, b.f.count[Cool], want.gone, want.cool)
		}
		if i == 1 { // page 2 is wanted again, and 4 is new
			b.hold(2)
			b.settle(2, Mapped)
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
				switch b.f.State(p) {
				case Absent:
					if b.f.Room() == 0 {
						evict(b)
					}
					b.take(p)
					b.settle(p, Mapped)
				case Cool:
					b.hold(p)
					b.settle(p, Mapped)
				}
			}
		}
	}
	access := func(page uint32) deed { // by a device
		return func(b *bench) {
			b.hold(page)
			b.settle(page, Mapped)
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
			if b.f.State(p) != Absent {
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
	if testing.Short() {
		t.Skip("SKIPPED: simulates for long, and the same on every kernel")
	}
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		limit := 4 + rng.IntN(60)
		pages := limit * (1 + rng.IntN(4))
		f := NewFrames(pages, limit)
		use := func(page uint32) (fault bool) {
			switch f.State(page) {
			case Mapped:
				return false
			case Cool:
				f.Hold(page)
			case Absent:
				if f.Room() == 0 {
					if f.count[Cool] == 0 {
						f.Chill(false)
					}
					p, _ := f.Victim(false)
					f.Drop(p)
				}
				f.Take(page)
			}
			f.Settle(page, Mapped)
			return true
		}
		for range 20 * limit {
			use(rng.Uint32N(uint32(pages)))
			if rng.IntN(4) == 0 {
				f.Chill(false)
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
	f := NewFrames(64, 16)
	page := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		page = (page + 1) % 64
		if f.State(page) != Absent {
			return
		}
		if f.Room() == 0 {
			f.Chill(false)
			p, _ := f.Victim(false)
			f.Drop(p)
		}
		f.Take(page)
		f.Settle(page, Mapped)
	}); n != 0 {
		t.Errorf("%v allocations a fault, want 0", n)
	}
}
