package window

import (
	"fmt"

	"offmap/memory"
)

// Residency stores the state of each page of RAM, in the layout's order, in
// pages, which has one element for each, all at one moment: memory.InWindow if
// it has a frame, those on their way in and out included; memory.Hidden if only
// the store has it; memory.Untouched if neither does, as a page of zeros that
// has been evicted. It returns the most that was ever in the window, in bytes.
//
// Under the pager's lock it does little: a pass over the frames and a copy of
// the store's bitmap, of 4 KiB for each 128 MiB of RAM.
func (w *Window) Residency(pages []memory.PageState) (peak uint64, err error) {
	if have := w.view.size / memory.PageSize; uint64(len(pages)) != have {
		return 0, fmt.Errorf("residency of %d pages: guest RAM has %d", len(pages), have)
	}
	stored := make(bitmap, len(w.stored))
	clear(pages)

	w.mu.Lock()
	copy(stored, w.stored)
	for p := range w.frames.Resident() {
		pages[p] = memory.InWindow
	}
	peak = uint64(w.frames.Peak()) * memory.PageSize
	w.mu.Unlock()

	for p := range pages {
		if pages[p] == memory.Untouched && stored.has(uint32(p)) {
			pages[p] = memory.Hidden
		}
	}
	return peak, nil
}
