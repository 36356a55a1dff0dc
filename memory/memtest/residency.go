package memtest

import (
	"slices"
	"testing"

	"offmap/memory"
)

// Residency tests the residency of fresh RAM of a backend, one region of at least
// 8 MiB: it writes to some pages and then checks the states of all.
func Residency(t *testing.T, b memory.Backend, ram memory.Guest, residency func([]memory.PageState) error) {
	t.Helper()
	has := memory.Hidden
	if b.Exposed() {
		has = memory.Ordinary
	}
	granule := 1 // pages that come together
	if b == memory.Hugetlb {
		granule = 512
	}
	want := make([]memory.PageState, ram.Layout().Size()/memory.PageSize)
	if b == memory.Reserved || b == memory.Removed {
		for i := range want {
			want[i] = has // nobody else's, and there from the start
		}
	}
	// The kernel may back anonymous memory with huge pages, wherever it likes.
	near := make([]bool, len(want))
	got := make([]memory.PageState, len(want))
	check := func(when string) {
		t.Helper()
		if err := residency(got); err != nil {
			t.Fatal(err)
		}
		if fresh := make([]memory.PageState, len(want)); residency(fresh) != nil || !slices.Equal(got, fresh) {
			t.Errorf("%s: with what the call before said, it says something else than without", when)
		}
		for i := range want {
			if got[i] != want[i] && !(near[i] && got[i] == has) {
				t.Fatalf("%s: page %d is %v, want %v", when, i, got[i], want[i])
			}
		}
	}
	check("untouched")
	for _, p := range []int{0, 3, 4, 513, len(want) - 1} {
		if _, err := ram.WriteAt([]byte{1}, memory.GPA(p)*memory.PageSize+5); err != nil {
			t.Fatal(err)
		}
		first := p / granule * granule
		for i := range granule {
			want[first+i] = has
		}
		for i := max(0, p-511); b == memory.Anon && i < min(len(near), p+512); i++ {
			near[i] = true
		}
		check("touched")
	}
	if !slices.Contains(got, memory.Untouched) && b != memory.Reserved && b != memory.Removed {
		t.Error("no page was left untouched: nothing was tested")
	}
}
