package window

import (
	"fmt"

	"offmap/memory"
)

// Residency sets each element of pages, which must have one for each page of RAM,
// in the layout's order, to the state of that page: memory.InWindow if the page
// has a frame, memory.Hidden if only the store has it, and memory.Untouched if
// neither does, which includes an evicted page of zeros. The states are those of
// one moment. It also returns the peak of Held, in bytes.
//
// The pager's lock is held for one pass over the frames and a copy of the store's
// bitmap, 4 KiB for each 128 MiB of RAM.
func (w *Window) Residency(pages []memory.PageState) (peak uint64, err error) {
	if have := w.file.size / memory.PageSize; uint64(len(pages)) != have {
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
