package window

import (
	"sync"
	"time"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
	"offmap/memory/uffd"
)

// thread answers faults.
type thread struct {
	w      *Window
	events uffd.Faults

	mu        sync.Mutex // of latencies, which may be asked for at any time
	latencies latencies
}

// serve answers faults until the window closes or fails. When it has answered
// those there are, and the guest runs again, it sees to it that the next ones
// find room.
func (t *thread) serve() {
	w := t.w
	for {
		stopped, err := w.faults.Wait(w.stop)
		if stopped {
			return
		}
		for n := 1; n > 0 && err == nil; {
			if err = t.answerAll(); err == nil {
				n, err = w.evictAhead()
			}
		}
		if err != nil {
			w.fail(err)
			return
		}
	}
}

// answerAll answers the faults there are.
func (t *thread) answerAll() error {
	w := t.w
	if err := w.faults.Read(&t.events); err != nil {
		return err
	}
	start := time.Now()
	for i := range t.events.Len() {
		if off, ok := w.faults.At(&t.events, i); ok {
			if err := w.answer(uint32(off / memory.PageSize)); err != nil {
				return err
			}
			t.mu.Lock()
			t.latencies.add(time.Since(start))
			t.mu.Unlock()
		}
	}
	return nil
}

// answer makes a page that the guest has faulted on usable.
//
// Whoever waits for the page when it is mapped is woken by that. So a fault on
// a page that is busy needs an answer of its own only if the page doesn't end
// up mapped, which want takes care of.
func (w *Window) answer(page uint32) error {
	w.mu.Lock()
	w.counts.Faults++
	for {
		switch {
		case w.err != nil:
			w.mu.Unlock()
			return w.err
		case w.frames.State(page) == policy.Busy:
			w.frames.Want(page)
			w.mu.Unlock()
			return nil
		case w.frames.State(page) != policy.Absent:
			w.counts.Rescues++
			lo, hi := w.rescue(page)
			w.mu.Unlock()
			if err := w.faults.Continue(uint64(offset(lo)), uint64(offset(hi-lo))); err != nil {
				return err
			}
			return w.settleMapped(lo, hi)
		case w.frames.Room() > 0:
			r := w.plan(page)
			w.mu.Unlock()
			return w.fill(r)
		}
		w.mu.Unlock()
		n, err := w.evict(false)
		if err != nil {
			return err
		}
		w.mu.Lock()
		// All frames are busy: one of them will settle.
		for n == 0 && w.err == nil && w.frames.Room() == 0 && w.frames.Count(policy.Busy) == w.frames.Limit() {
			w.settled.Wait()
		}
	}
}

// rescueBlock is how many pages, aligned, are mapped again together when the
// guest asks for one that is cool. Without that, what ageing unmaps of a guest
// at work would come back at a fault a page, and leave it time for little else.
const rescueBlock = 16

// rescue makes a page busy that has a frame, and the cool ones around it in its
// block. mu is held.
func (w *Window) rescue(page uint32) (lo, hi uint32) {
	lo, hi = page, page+1
	w.frames.Hold(page)
	first := page &^ (rescueBlock - 1)
	last := min(first+rescueBlock, uint32(w.view.size/memory.PageSize))
	for ; lo > first && w.frames.State(lo-1) == policy.Cool; lo-- {
		w.frames.Hold(lo - 1)
	}
	for ; hi < last && w.frames.State(hi) == policy.Cool; hi++ {
		w.frames.Hold(hi)
	}
	return lo, hi
}

// run is pages [lo, hi), at most policy.MaxFill of them; stored has a bit for
// each that the store has.
type run struct {
	lo, hi uint32
	stored uint64
}

func (r run) has(page uint32) bool { return r.stored>>(page-r.lo)&1 != 0 }

// plan takes frames for a page that has faulted and for its neighbours, as
// far as the guest walks there, they are absent, and there is room. mu is held.
func (w *Window) plan(page uint32) run {
	lo, hi := w.walks.Next(page)
	hi = min(hi, uint32(w.view.size/memory.PageSize))
	r := run{lo: page, hi: page}
	free := func(p uint32) bool { return w.frames.Room() > 0 && w.frames.State(p) == policy.Absent }
	for r.hi < hi && free(r.hi) {
		w.frames.Take(r.hi)
		r.hi++
	}
	for r.lo > lo && free(r.lo-1) {
		r.lo--
		w.frames.Take(r.lo)
	}
	for p := r.lo; p < r.hi; p++ {
		if w.stored.has(p) {
			r.stored |= 1 << (p - r.lo)
		}
	}
	w.counts.Filled += uint64(r.hi - r.lo)
	return r
}

// fill gives busy pages their contents, and maps them.
func (w *Window) fill(r run) error {
	for lo := r.lo; lo < r.hi; {
		// As many at once as are alike.
		hi, stored := lo+1, r.has(lo)
		for hi < r.hi && r.has(hi) == stored {
			hi++
		}
		if err := w.load(lo, hi, stored); err != nil {
			return err
		}
		lo = hi
	}
	return w.settleMapped(r.lo, r.hi)
}

// load makes frames for pages [lo, hi) with what the store has for them, or
// with zeros, maps them for KVM and wakes who waits for them.
func (w *Window) load(lo, hi uint32, stored bool) error {
	off, n := uint64(offset(lo)), uint64(offset(hi-lo))
	if !stored {
		if err := w.faults.Zero(off, n); err != nil {
			return err
		}
		return w.view.pin(lo, hi)
	}
	if err := w.view.load(lo, hi); err != nil {
		return err
	}
	return w.faults.Continue(off, n)
}

// settleMapped takes it to the books that busy pages have been mapped.
func (w *Window) settleMapped(lo, hi uint32) error {
	w.mu.Lock()
	for p := lo; p < hi; p++ {
		w.frames.Settle(p, policy.Mapped)
	}
	w.settled.Broadcast()
	w.mu.Unlock()
	return nil
}
