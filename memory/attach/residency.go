package attach

import "offmap/memory"

// Residency brings pages up to date, which has the state of each page of guest
// RAM in the layout's order, and returns the usage that they add up to. At the
// first call all pages are memory.Untouched, and afterwards what the call before
// made of them. The guest may run meanwhile: none of its memory is read, and
// nothing is populated.
//
// A window's pages are all of one moment. Elsewhere a page may be populated
// while the others are asked for; only swap takes one away again.
func (a *Attachment) Residency(pages []memory.PageState) (u Usage, err error) {
	var peak uint64
	if a.window != nil {
		peak, err = a.window.Residency(pages)
	} else {
		err = a.ram.Residency(pages)
	}
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
