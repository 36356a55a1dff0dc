package memory

import "fmt"

// PageState is where a page of guest RAM is, as the host kernel sees it.
type PageState uint8

// The states. Exposed pages are readable through the host kernel's direct map.
const (
	// Untouched pages have no memory behind them. A page of ordinary memory
	// that was swapped out looks like one too.
	Untouched PageState = iota
	// Hidden pages have memory that isn't in the direct map, and no copy of
	// them is.
	Hidden
	// InWindow pages have a copy in an ordinary frame: exposed.
	InWindow
	// Ordinary pages are in the direct map themselves: exposed.
	Ordinary
	NumPageStates
)

var pageStates = [NumPageStates]string{"untouched", "hidden", "in the window", "ordinary"}

func (s PageState) String() string {
	if s < NumPageStates {
		return pageStates[s]
	}
	return fmt.Sprintf("page state %d", uint8(s))
}

// Exposed reports whether the host kernel can read a page in that state through
// its direct map.
func (s PageState) Exposed() bool { return s == InWindow || s == Ordinary }

// Residency stores the state of each page of RAM, in the layout's order, in
// pages, which has one element for each: Ordinary or Hidden by the backend, or
// Untouched. It asks the kernel with mincore(2), reads none of the memory and
// populates nothing.
func (r *RAM) Residency(pages []PageState) error {
	if uint64(len(pages)) != r.layout.Size()/PageSize {
		return fmt.Errorf("residency of %d pages: guest RAM has %d", len(pages), r.layout.Size()/PageSize)
	}
	has := Hidden
	if r.backend.exposed {
		has = Ordinary
	}
	if r.backend.carved {
		for i := range pages {
			pages[i] = has
		}
		return nil
	}
	if err := r.resident(pages); err != nil {
		return err
	}
	for i, v := range pages {
		pages[i] = (v & 1) * has // the other bits of mincore's answer are reserved
	}
	return nil
}
