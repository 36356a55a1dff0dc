package exposuremap

import "offmap/memory"

// Cell is a few neighbouring pages of guest RAM, in one byte: the share of them
// that is hidden in the high half, and the share that is exposed in the low
// one. The rest is untouched. Shares are in fifteenths, rounded so that 0 is
// none of the pages and Full all of them: a cell with one exposed page never
// looks as if it had none.
type Cell uint8

// Full is the share that is all of a cell.
const Full = 15

// Hidden is the share of the pages that have memory off the direct map.
func (c Cell) Hidden() uint8 { return uint8(c >> 4) }

// Exposed is the share of the pages in the direct map: ordinary ones, or their
// copies in the window.
func (c Cell) Exposed() uint8 { return uint8(c & 15) }

// valid reports whether the shares can be those of one cell: where one is all
// of it, the other is nothing.
func (c Cell) valid() bool {
	return (c.Hidden() < Full || c.Exposed() == 0) && (c.Exposed() < Full || c.Hidden() == 0)
}

// Cells appends a map of pages to cells: one cell for each per pages, the last for
// those that are left.
func Cells(cells []Cell, pages []memory.PageState, per int) []Cell {
	for len(pages) > 0 {
		n := min(per, len(pages))
		var count [256]int // by state; so large, it needs no bounds check
		for _, s := range pages[:n] {
			count[s]++
		}
		hidden, exposed := count[memory.Hidden], count[memory.InWindow]+count[memory.Ordinary]
		cells = append(cells, Cell(share(hidden, n)<<4|share(exposed, n)))
		pages = pages[n:]
	}
	return cells
}

// share returns n of all in fifteenths, rounded as Cell says.
func share(n, all int) uint8 {
	switch n {
	case 0:
		return 0
	case all:
		return Full
	}
	return uint8(1 + (n-1)*(Full-1)/(all-1))
}

// perCell returns the number of pages of a trace's cell: the smallest power of two
// with which a map has at most MaxCells cells.
func perCell(pages uint64) uint64 {
	per := uint64(1)
	for per*MaxCells < pages {
		per *= 2
	}
	return per
}

// Scale returns a map with n cells. If it has fewer cells than before, each is the
// mean of several, rounded so that a single exposed page still shows.
func Scale(cells []Cell, n int) []Cell {
	scaled := make([]Cell, n)
	if len(cells) == 0 {
		return scaled
	}
	for i := range scaled {
		lo := i * len(cells) / n
		hi := max(lo+1, (i+1)*len(cells)/n)
		var hidden, exposed int
		for _, c := range cells[lo:hi] {
			hidden += int(c.Hidden())
			exposed += int(c.Exposed())
		}
		all := (hi - lo) * Full
		scaled[i] = Cell(share(hidden, all)<<4 | share(exposed, all))
	}
	return scaled
}
