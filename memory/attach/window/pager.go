package window

import (
	"sync"
	"time"

	"offmap/internal/process/yield"
	"offmap/memory"
	"offmap/memory/attach/window/policy"
	"offmap/memory/uffd"
)

// thread is a goroutine that answers faults.
type thread struct {
	w      *Window
	events uffd.Faults

	mu        sync.Mutex // protects latencies
	latencies latencies
}

// serve answers faults until the window closes or fails. After each round, while
// the guest runs again, it restores the reserve of free frames.
func (t *thread) serve() {
	w := t.w
	var yield yield.Ticker
	for {
		yield.Tick()
		stopped, err := w.faults.Wait(w.stop)
		if stopped {
			return
		}
		for n := 1; n > 0 && err == nil; {
			if err = t.answerAll(); err == nil {
				n, err = w.tryEvict()
			}
		}
		if err != nil {
			w.fail(err)
			return
		}
	}
}

// answerAll answers the faults that are pending.
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

// answer resolves a fault on page.
//
// Mapping a page wakes all vCPUs that wait for it. So if the page is busy, the
// fault needs a wake-up of its own only if the page is then evicted and not
// mapped: AddWaiter records that.
func (w *Window) answer(page uint32) error {
	w.mu.Lock()
	w.counts.Faults++
	for {
		switch {
		case w.err != nil:
			w.mu.Unlock()
			return w.err
		case w.frames.State(page) == policy.Busy:
			w.frames.AddWaiter(page)
			w.mu.Unlock()
			return nil
		case w.frames.State(page) != policy.Absent:
			w.counts.MinorFaults++
			lo, hi := w.faultAround(page)
			w.mu.Unlock()
			if err := w.faults.Continue(uint64(offset(lo)), uint64(offset(hi-lo))); err != nil {
				return err
			}
			w.mapped(lo, hi)
			return nil
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
		// If all frames are busy, wait for one that isn't.
		for n == 0 && w.err == nil && w.frames.Room() == 0 && w.frames.Count(policy.Busy) == w.frames.Limit() {
			w.notBusy.Wait()
		}
	}
}

// aroundPages is the size in pages of the aligned block in which a minor fault also
// maps the unmapped pages next to its own, as Linux's fault-around does. With Age,
// the pages of a guest at work are unmapped regularly, and would otherwise cost a
// fault each.
const aroundPages = 16

// faultAround makes a page that has a frame busy, and the unmapped pages next to
// it in its block. It returns them as [lo, hi). The caller holds mu.
func (w *Window) faultAround(page uint32) (lo, hi uint32) {
	lo, hi = page, page+1
	w.frames.Isolate(page)
	first := page &^ (aroundPages - 1)
	last := min(first+aroundPages, uint32(w.file.size/memory.PageSize))
	for ; lo > first && w.frames.State(lo-1) == policy.Unmapped; lo-- {
		w.frames.Isolate(lo - 1)
	}
	for ; hi < last && w.frames.State(hi) == policy.Unmapped; hi++ {
		w.frames.Isolate(hi)
	}
	return lo, hi
}

// pageRun is the pages [lo, hi), at most policy.MaxFill. Bit i of stored is set if the
// store has page lo+i.
type pageRun struct {
	lo, hi uint32
	stored uint64
}

func (r pageRun) has(page uint32) bool { return r.stored>>(page-r.lo)&1 != 0 }

// plan allocates frames for a page that faulted and for the absent pages next to
// it that are worth reading ahead, as far as there is room. The caller holds mu.
func (w *Window) plan(page uint32) pageRun {
	lo, hi := w.streams.Next(page)
	hi = min(hi, uint32(w.file.size/memory.PageSize))
	r := pageRun{lo: page, hi: page}
	fits := func(p uint32) bool { return w.frames.Room() > 0 && w.frames.State(p) == policy.Absent }
	for r.hi < hi && fits(r.hi) {
		w.frames.Allocate(r.hi)
		r.hi++
	}
	for r.lo > lo && fits(r.lo-1) {
		r.lo--
		w.frames.Allocate(r.lo)
	}
	for p := r.lo; p < r.hi; p++ {
		if w.stored.has(p) {
			r.stored |= 1 << (p - r.lo)
		}
	}
	w.counts.Filled += uint64(r.hi - r.lo)
	return r
}

// fill fills the frames of busy pages and maps them.
func (w *Window) fill(r pageRun) error {
	for lo := r.lo; lo < r.hi; {
		hi, stored := lo+1, r.has(lo)
		for hi < r.hi && r.has(hi) == stored {
			hi++
		}
		if err := w.load(lo, hi, stored); err != nil {
			return err
		}
		lo = hi
	}
	w.mapped(r.lo, r.hi)
	return nil
}

// load fills the frames of pages [lo, hi) from the store, or with zeros if it
// doesn't have them, maps them and wakes the vCPUs that wait for them.
func (w *Window) load(lo, hi uint32, stored bool) error {
	off, n := uint64(offset(lo)), uint64(offset(hi-lo))
	if !stored {
		if err := w.faults.Zero(off, n); err != nil {
			return err
		}
		return w.file.lockFrames(lo, hi)
	}
	if err := w.file.load(lo, hi); err != nil {
		return err
	}
	return w.faults.Continue(off, n)
}

// mapped records that the busy pages [lo, hi) are mapped.
func (w *Window) mapped(lo, hi uint32) {
	w.mu.Lock()
	for p := lo; p < hi; p++ {
		w.frames.Map(p)
	}
	w.notBusy.Broadcast()
	w.mu.Unlock()
}
