package exposuremap

import (
	"testing"

	"offmap/memory"
)

// TestCells holds that no page that is exposed disappears in its cell, and that
// full and empty mean just that.
func TestCells(t *testing.T) {
	for _, per := range []int{1, 2, 8, 32, 1000} {
		for hidden := range per + 1 {
			for exposed := range per + 1 - hidden {
				for _, state := range []memory.PageState{memory.InWindow, memory.Ordinary} {
					pages := make([]memory.PageState, per)
					for i := range pages {
						switch {
						case i < hidden:
							pages[i] = memory.Hidden
						case i < hidden+exposed:
							pages[i] = state
						}
					}
					got := Cells(nil, pages, per)
					if len(got) != 1 || !got[0].valid() {
						t.Fatalf("%d hidden and %d exposed of %d: %x", hidden, exposed, per, got)
					}
					c := got[0]
					if (c.Exposed() == 0) != (exposed == 0) || (c.Exposed() == Full) != (exposed == per) ||
						(c.Hidden() == 0) != (hidden == 0) || (c.Hidden() == Full) != (hidden == per) {
						t.Fatalf("%d hidden and %d exposed of %d: shares %d and %d", hidden, exposed, per, c.Hidden(), c.Exposed())
					}
				}
			}
			if per == 1000 && hidden > 20 {
				break
			}
		}
	}
	// The rest has a cell of its own, which is full by itself.
	got := Cells(nil, make([]memory.PageState, 9), 4)
	if len(got) != 3 {
		t.Errorf("%d cells for 9 pages, 4 each", len(got))
	}
	if got := Cells(nil, []memory.PageState{0, 0, memory.Ordinary}, 2); got[1] != Full {
		t.Errorf("the last cell, of one page, is %x", got[1])
	}
}

func TestPerCell(t *testing.T) {
	for pages, want := range map[uint64]uint64{1: 1, MaxCells: 1, MaxCells + 1: 2, 131072: 32, memory.MaxSize / memory.PageSize: 65536} {
		if got := perCell(pages); got != want {
			t.Errorf("%d pages: %d a cell, want %d", pages, got, want)
		}
	}
}
