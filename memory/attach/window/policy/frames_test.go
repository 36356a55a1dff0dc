package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFramesAge checks the promise of --window-age: a page that isn't used is
// evicted within four ticks, and one that is used again isn't.
func TestFramesAge(t *testing.T) {
	b := newBench(t, 8, 8)
	fill := func(page uint32) {
		b.allocate(page)
		b.mapPage(page)
	}
	round := func() (gone []uint32) {
		b.tick()
		for ok := true; ok; {
			_, ok = b.unmap(true)
		}
		for {
			p, ok := b.victim(true)
			if !ok {
				break
			}
			b.free(p)
			gone = append(gone, p)
		}
		b.check()
		return gone
	}
	for _, p := range []uint32{1, 2, 3} {
		fill(p)
	}
	for i, want := range []struct {
		gone     []uint32
		unmapped int
	}{{nil, 0}, {nil, 3}, {nil, 2}, {[]uint32{1, 3}, 2}, {nil, 2}, {[]uint32{4, 2}, 0}} {
		gone := round()
		slices.Sort(gone)
		slices.Sort(want.gone)
		if !slices.Equal(gone, want.gone) || b.f.count[Unmapped] != want.unmapped {
			t.Fatalf("tick %d: %v gone, %d unmapped; want %v, %d", i+1, gone, b.f.count[Unmapped], want.gone, want.unmapped)
		}
		if i == 1 { // a minor fault on page 2, and page 4 is new
			b.isolate(2)
			b.mapPage(2)
			fill(4)
		}
	}
}

// TestFramesOrder checks the order of eviction by the pages that are left in a
// window of 8.
func TestFramesOrder(t *testing.T) {
	type operation = func(*bench)
	evict := func(b *bench) {
		b.unmap(false)
		if p, ok := b.victim(false); ok {
			b.free(p)
		}
	}
	use := func(pages ...uint32) operation {
		return func(b *bench) {
			for _, p := range pages {
				switch b.f.State(p) {
				case Absent:
					if b.f.Room() == 0 {
						evict(b)
					}
					b.allocate(p)
					b.mapPage(p)
				case Unmapped:
					b.isolate(p)
					b.mapPage(p)
				}
			}
		}
	}
	access := func(page uint32) operation { // by a device
		return func(b *bench) {
			b.isolate(page)
			b.mapPage(page)
		}
	}
	unmap := func(n int) operation {
		return func(b *bench) {
			for range n {
				b.unmap(false)
			}
		}
	}
	scan := use(20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31)
	for _, c := range []struct {
		name       string
		operations []operation
		want       []uint32
	}{
		{"first in, first out", []operation{use(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}, []uint32{2, 3, 4, 5, 6, 7, 8, 9}},
		{"a scan evicts inactive pages", []operation{use(0, 1, 2, 3), scan}, []uint32{24, 25, 26, 27, 28, 29, 30, 31}},
		{"a scan leaves pages with a minor fault", []operation{use(0, 1, 2, 3), unmap(3), use(0, 1), scan}, []uint32{0, 1, 26, 27, 28, 29, 30, 31}},
		{"a scan leaves pages with a close refault", []operation{
			use(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), use(0, 1), scan}, []uint32{0, 1, 26, 27, 28, 29, 30, 31}},
		{"a scan evicts pages with a distant refault", []operation{
			use(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17), use(0, 1), scan}, []uint32{24, 25, 26, 27, 28, 29, 30, 31}},
		{"a scan evicts a mapped page that a device used", []operation{
			use(0, 1, 2, 3), access(0), scan}, []uint32{24, 25, 26, 27, 28, 29, 30, 31}},
		{"the inactive list keeps its share", []operation{
			use(0, 1, 2, 3, 4, 5, 6, 7), unmap(8), use(0, 1, 2, 3, 4, 5, 6, 7), use(20, 21, 22, 23)}, []uint32{3, 4, 5, 6, 7, 21, 22, 23}},
	} {
		b := newBench(t, 40, 8)
		for _, do := range c.operations {
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

// TestFramesProgress checks that a guest makes progress. Pages that it needs at
// once, up to three quarters of the window, are all mapped after a few rounds of
// faults on them, whatever happened before.
func TestFramesProgress(t *testing.T) {
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
			case Unmapped:
				f.Isolate(page)
			case Absent:
				if f.Room() == 0 {
					if f.count[Unmapped] == 0 {
						f.Unmap(false)
					}
					p, _ := f.Victim(false)
					f.Free(p)
				}
				f.Allocate(page)
			}
			f.Map(page)
			return true
		}
		for range 20 * limit {
			use(rng.Uint32N(uint32(pages)))
			if rng.IntN(4) == 0 {
				f.Unmap(false)
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

// TestFramesDoNotAllocate checks that the fault path allocates no memory.
func TestFramesDoNotAllocate(t *testing.T) {
	f := NewFrames(64, 16)
	page := uint32(0)
	if n := testing.AllocsPerRun(1000, func() {
		page = (page + 1) % 64
		if f.State(page) != Absent {
			return
		}
		if f.Room() == 0 {
			f.Unmap(false)
			p, _ := f.Victim(false)
			f.Free(p)
		}
		f.Allocate(page)
		f.Map(page)
	}); n != 0 {
		t.Errorf("%v allocations a fault, want 0", n)
	}
}
