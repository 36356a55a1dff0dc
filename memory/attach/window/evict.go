package window

import (
	"slices"
	"time"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
)

// batch is the evictor's work space, so that it doesn't allocate.
type batch struct {
	pages  []uint32
	stored [policy.MaxBatch]bool
	wake   []uint32
}

// reserve is how many frames are kept free, so that a fault finds one and a
// walk a few fills' worth.
func (w *Window) reserve() int {
	return max(1, min(2*int(w.walks.Most), w.frames.Limit()/8))
}

// evictOld evicts, every now and then, what hasn't been used for Age.
func (w *Window) evictOld() {
	// A page that isn't used is cool after one to two ticks, and gone after
	// one to two more.
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

// evict takes a batch of pages that are the next to go away from KVM and gives
// their frames back. It returns how many pages it did something with: 0 where
// the reserve is full or, with old, where all pages are young.
//
// No page is unmapped before its turn, to see whether the guest still wants
// it: such a fault costs the guest two thirds of one that brings the page back
// (BenchmarkPolicies of package policy).
func (w *Window) evict(old bool) (n int, err error) {
	w.evicting.Lock()
	defer w.evicting.Unlock()
	return w.evictBatch(old)
}

// evictAhead is evict for a thread that has better to do than wait for another
// that is at it.
func (w *Window) evictAhead() (n int, err error) {
	if !w.evicting.TryLock() {
		return 0, nil
	}
	defer w.evicting.Unlock()
	return w.evictBatch(false)
}

// evictBatch is evict with evicting held.
func (w *Window) evictBatch(old bool) (n int, err error) {
	w.mu.Lock()
	want := min(w.reserve()-w.frames.Room(), policy.MaxBatch)
	unmap := want - w.frames.Count(policy.Cool)
	if old {
		want, unmap = policy.MaxBatch, policy.MaxBatch
	}
	err = w.err
	w.mu.Unlock()
	if want <= 0 || err != nil {
		return 0, err
	}
	if n, err = w.unmap(unmap, old); err != nil {
		return n, err
	}
	k, err := w.giveBack(want, old)
	return n + k, err
}

// unmap takes up to n pages away from KVM. evicting is held.
func (w *Window) unmap(n int, old bool) (int, error) {
	b := &w.batch
	w.mu.Lock()
	b.collect(n, w.frames.Chill, old)
	w.mu.Unlock()
	for lo, hi := range b.runs() {
		if err := w.view.unmap(lo, hi); err != nil {
			return len(b.pages), err
		}
	}
	return len(b.pages), nil
}

// giveBack evicts up to want cool pages, a batch at most. evicting is held.
func (w *Window) giveBack(want int, old bool) (n int, err error) {
	b := &w.batch
	w.mu.Lock()
	b.collect(want, w.frames.Victim, old)
	for i, page := range b.pages {
		b.stored[i] = w.stored.has(page)
	}
	w.mu.Unlock()
	if err := b.save(w.view); err != nil {
		return 0, err
	}
	for lo, hi := range b.runs() {
		if err := w.view.free(lo, hi); err != nil {
			return 0, err
		}
	}
	return len(b.pages), w.evicted()
}

// evicted takes the frames of a batch off the books.
func (w *Window) evicted() error {
	b := &w.batch
	b.wake = b.wake[:0]
	w.mu.Lock()
	w.counts.Evicted += uint64(len(b.pages))
	for i, page := range b.pages {
		if b.stored[i] {
			w.stored.add(page)
		}
		if w.frames.Drop(page) {
			b.wake = append(b.wake, page)
		}
	}
	w.settled.Broadcast()
	w.mu.Unlock()
	for _, page := range b.wake {
		if err := w.faults.Wake(uint64(offset(page)), memory.PageSize); err != nil {
			return err
		}
	}
	return nil
}

// collect makes the batch of up to n pages that next names, and sorts them.
func (b *batch) collect(n int, next func(old bool) (uint32, bool), old bool) {
	b.pages = b.pages[:0]
	for len(b.pages) < n {
		page, ok := next(old)
		if !ok {
			break
		}
		b.pages = append(b.pages, page)
	}
	slices.Sort(b.pages)
}

// save copies the batch's pages, which KVM can't use, from their frames to the
// store, and notes which the store has now.
func (b *batch) save(v *view) (err error) {
	for i := 0; i < len(b.pages); {
		if !b.stored[i] {
			if b.stored[i], err = v.saveFresh(b.pages[i]); err != nil {
				return err
			}
			i++
			continue
		}
		// As many at once as follow each other.
		n := 1
		for i+n < len(b.pages) && b.stored[i+n] && b.pages[i+n] == b.pages[i]+uint32(n) {
			n++
		}
		if err := v.save(b.pages[i], b.pages[i]+uint32(n)); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// runs yields the runs [lo, hi) of sorted pages that follow each other.
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
