package window

import (
	"slices"
	"time"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
)

// batch is the pages of one eviction, preallocated. evicting protects it.
type batch struct {
	pages  []uint32
	stored [policy.MaxBatch]bool // by index in pages: the store has the page
	wake   []uint32              // evicted pages for which a fault waits
}

// reserve returns how many frames the evictor keeps free, so that a fault doesn't
// wait for an eviction and a sequential stream has room to read ahead.
func (w *Window) reserve() int {
	return max(1, min(2*int(w.streams.Most), w.frames.Limit()/8))
}

// evictAged evicts pages that haven't been used for Age, until the window closes.
func (w *Window) evictAged() {
	// A page that isn't used is unmapped after one to two ticks, and evicted
	// after one to two more.
	t := time.NewTicker(max(w.cfg.Age/4, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-w.done:
			return
		case <-t.C:
		}
		w.mu.Lock()
		w.frames.Tick()
		w.mu.Unlock()
		for n := 1; n > 0; {
			var err error
			if n, err = w.evict(true); err != nil {
				w.fail(err)
				return
			}
		}
	}
}

// evict unmaps and evicts a batch of pages to restore the reserve. With aged, it
// does so for aged pages, whatever the reserve. It returns the number of pages
// that it unmapped or evicted: 0 if there are none to evict.
//
// Pages are unmapped only to be evicted, and not ahead of that to sample their
// use as CLOCK does: the minor fault costs the guest two thirds of the major one
// that it may save (BenchmarkPolicies of package policy).
func (w *Window) evict(aged bool) (n int, err error) {
	w.evicting.Lock()
	defer w.evicting.Unlock()
	return w.evictBatch(aged)
}

// tryEvict is evict, but returns 0 if another goroutine is evicting.
func (w *Window) tryEvict() (n int, err error) {
	if !w.evicting.TryLock() {
		return 0, nil
	}
	defer w.evicting.Unlock()
	return w.evictBatch(false)
}

// evictBatch is evict. The caller holds evicting.
func (w *Window) evictBatch(aged bool) (n int, err error) {
	w.mu.Lock()
	want := min(w.reserve()-w.frames.Room(), policy.MaxBatch)
	unmap := want - w.frames.Count(policy.Unmapped)
	if aged {
		want, unmap = policy.MaxBatch, policy.MaxBatch
	}
	err = w.err
	w.mu.Unlock()
	if want <= 0 || err != nil {
		return 0, err
	}
	if n, err = w.unmap(unmap, aged); err != nil {
		return n, err
	}
	k, err := w.evictUnmapped(want, aged)
	return n + k, err
}

// unmap unmaps up to n pages. The caller holds evicting.
func (w *Window) unmap(n int, aged bool) (int, error) {
	b := &w.batch
	w.mu.Lock()
	b.collect(n, w.frames.Unmap, aged)
	w.mu.Unlock()
	for lo, hi := range b.runs() {
		if err := w.file.unmap(lo, hi); err != nil {
			return len(b.pages), err
		}
	}
	return len(b.pages), nil
}

// evictUnmapped evicts up to limit unmapped pages. The caller holds evicting.
func (w *Window) evictUnmapped(limit int, aged bool) (n int, err error) {
	b := &w.batch
	w.mu.Lock()
	b.collect(limit, w.frames.Victim, aged)
	for i, page := range b.pages {
		b.stored[i] = w.stored.has(page)
	}
	w.mu.Unlock()
	if err := b.save(w.file); err != nil {
		return 0, err
	}
	for lo, hi := range b.runs() {
		if err := w.file.free(lo, hi); err != nil {
			return 0, err
		}
	}
	return len(b.pages), w.freed()
}

// freed makes the pages of the batch absent, and wakes the vCPUs that faulted on
// one of them meanwhile: they fault again.
func (w *Window) freed() error {
	b := &w.batch
	b.wake = b.wake[:0]
	w.mu.Lock()
	w.counts.Evicted += uint64(len(b.pages))
	for i, page := range b.pages {
		if b.stored[i] {
			w.stored.add(page)
		}
		if w.frames.Free(page) {
			b.wake = append(b.wake, page)
		}
	}
	w.notBusy.Broadcast()
	w.mu.Unlock()
	for _, page := range b.wake {
		if err := w.faults.Wake(uint64(offset(page)), memory.PageSize); err != nil {
			return err
		}
	}
	return nil
}

// collect fills the batch with up to n pages that choose returns, sorted.
func (b *batch) collect(n int, choose func(aged bool) (uint32, bool), aged bool) {
	b.pages = b.pages[:0]
	for len(b.pages) < n {
		page, ok := choose(aged)
		if !ok {
			break
		}
		b.pages = append(b.pages, page)
	}
	slices.Sort(b.pages)
}

// save copies the batch's pages, which are unmapped, to the store, and records in
// stored which of them it has.
func (b *batch) save(f *windowFile) (err error) {
	for i := 0; i < len(b.pages); {
		if !b.stored[i] {
			if b.stored[i], err = f.saveFirst(b.pages[i]); err != nil {
				return err
			}
			i++
			continue
		}
		n := 1
		for i+n < len(b.pages) && b.stored[i+n] && b.pages[i+n] == b.pages[i]+uint32(n) {
			n++
		}
		if err := f.save(b.pages[i], b.pages[i]+uint32(n)); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// runs yields the batch's contiguous runs of pages, as [lo, hi).
func (b *batch) runs() func(yield func(lo, hi uint32) bool) {
	return func(yield func(lo, hi uint32) bool) {
		for i := 0; i < len(b.pages); {
			lo := b.pages[i]
			n := 1
			for i+n < len(b.pages) && b.pages[i+n] == lo+uint32(n) {
				n++
			}
			if !yield(lo, lo+uint32(n)) {
				return
			}
			i += n
		}
	}
}
