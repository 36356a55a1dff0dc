package memory

import (
	"fmt"

	"golang.org/x/sys/unix"
)

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

// Residency brings pages up to date, which has the state of each page of RAM in
// the layout's order: Ordinary or Hidden, depending on the backend, or Untouched.
// The caller passes all pages as Untouched at first, and afterwards as the last
// call left them: a page that can't be swapped stays populated, so Residency does
// not look it up again. It reads no memory and populates none.
//
// It is slow for a page cache that isn't mapped here (BenchmarkResidency,
// Linux 6.18): 50 to 75 ns a page with mincore(2), be it populated or not. With
// cachestat(2), which Linux has from 6.5 on, it is 35 ns a page that is
// populated, and next to nothing for others.
func (r *RAM) Residency(pages []PageState) error {
	if uint64(len(pages)) != r.layout.Size()/PageSize {
		return fmt.Errorf("residency of %d pages: guest RAM has %d", len(pages), r.layout.Size()/PageSize)
	}
	has := Hidden
	if r.backend.exposed {
		has = Ordinary
	}
	switch {
	case r.backend.carved:
		fill(pages, has)
		return nil
	case r.fd < 0 || r.backend.page != PageSize:
		return r.ask(pages, 0, len(pages), has)
	}
	const chunk = hugePage / PageSize // what one page table maps
	for lo := 0; lo < len(pages); lo += chunk {
		hi := min(lo+chunk, len(pages))
		if err := r.askFile(pages, lo, hi, has); err != nil {
			return err
		}
	}
	return nil
}

// askFile brings pages [lo, hi) of RAM with a file up to date. It first asks how
// many are populated: if that is none, all, or as many as before, it knows which.
func (r *RAM) askFile(pages []PageState, lo, hi int, has PageState) error {
	known := 0
	for _, s := range pages[lo:hi] {
		if s == has {
			known++
		}
	}
	stay := !r.backend.swapped
	switch {
	case known == hi-lo && stay:
		return nil
	case known > 0 && !stay:
		return r.ask(pages, lo, hi, has) // they are mapped, which is fast
	}
	rng := unix.CachestatRange{Off: uint64(lo) * PageSize, Len: uint64(hi-lo) * PageSize}
	var stat unix.Cachestat_t
	if err := unix.Cachestat(uint(r.fd), &rng, &stat, 0); err == nil {
		switch n := int(stat.Cache); {
		case n == 0:
			fill(pages[lo:hi], Untouched)
			return nil
		case n == hi-lo:
			fill(pages[lo:hi], has)
			return nil
		case n == known:
			return nil
		}
	}
	return r.ask(pages, lo, hi, has)
}

// ask brings pages [lo, hi) up to date with mincore(2).
func (r *RAM) ask(pages []PageState, lo, hi int, has PageState) error {
	if err := mincore(r.mem[lo*PageSize:], pages[lo:hi]); err != nil {
		return err
	}
	for i, v := range pages[lo:hi] {
		pages[lo+i] = (v & 1) * has // the other bits of the answer are reserved
	}
	return nil
}

func fill(pages []PageState, s PageState) {
	for i := range pages {
		pages[i] = s
	}
}
