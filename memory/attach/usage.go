package attach

import (
	"time"

	"offmap/memory"
)

// Usage is guest RAM in bytes: how much is populated, how much of that the host
// kernel can read through its direct map now, and the most that it ever could.
type Usage struct {
	Populated, Exposed, ExposedPeak uint64
}

// Faults are the faults that a window's pager has answered: how many, and the
// median and the 99th percentile of the time from the event to the wake-up.
type Faults struct {
	Count    uint64
	P50, P99 time.Duration
}

// Residency brings pages up to date, the state of each page of guest RAM in the
// layout's order, and returns their sum. At the first call all pages are
// memory.Untouched, and afterwards as the call before left them. The guest may
// run meanwhile: Residency reads none of its memory and populates nothing.
//
// A window's pages are all of one moment. Elsewhere a page may be populated
// while others are looked up; only swap takes one away again.
func (a *Attachment) Residency(pages []memory.PageState) (u Usage, err error) {
	peak, err := a.via.residency(pages)
	if err != nil {
		return u, err
	}
	var count [256]uint64 // by state; so large, it needs no bounds check
	for _, s := range pages {
		count[s]++
	}
	u.Exposed = (count[memory.InWindow] + count[memory.Ordinary]) * memory.PageSize
	u.Populated = count[memory.Hidden]*memory.PageSize + u.Exposed
	u.ExposedPeak = max(peak, u.Exposed)
	return u, nil
}
