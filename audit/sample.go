package audit

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
)

// sampled is how many pages of a mapping an attack tries that reads word by
// word. A guest that boots Linux plants its canary in a tenth of its RAM: that
// none of it is among so many pages of a mapping has a chance of 1 in 10^11.
const sampled = 256

// sample lists up to n pages of each mapping of the target's, at random: one of
// each mapping, another of each, and so on, so that wherever an attack stops it
// has tried them all alike. A page that was never touched is left out where it
// has no content for sure: in anonymous memory, and nowhere else, since the
// page tables of the VMM don't show all of guest RAM. It needn't have touched
// it, and a module's view of secret memory isn't shown at all.
func (t Target) sample(ctx context.Context, n int) (pages []uint64, mappings int, err error) {
	areas, err := t.areas()
	if err != nil {
		return nil, 0, err
	}
	m, err := openPagemap(t.PID)
	if err != nil {
		return nil, 0, err
	}
	defer m.Close()
	var samples [][]uint64
	for _, a := range areas {
		var s []uint64
		if strings.HasPrefix(a.Path, "/") || strings.HasPrefix(a.Path, "anon_inode:") {
			s = a.pick(n)
		} else {
			err := m.each(ctx, a, func(addr uint64, e pagemapEntry) {
				if e.present() || e.swapped() {
					s = append(s, addr)
				}
			})
			if err != nil {
				return nil, 0, err
			}
		}
		rand.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		if s = s[:min(n, len(s))]; len(s) > 0 {
			samples = append(samples, s)
		}
	}
	for turn := 0; ; turn++ {
		before := len(pages)
		for _, s := range samples {
			if turn < len(s) {
				pages = append(pages, s[turn])
			}
		}
		if len(pages) == before {
			return pages, len(samples), nil
		}
	}
}

// pick lists up to n of an area's pages: all, or as many at random.
func (a area) pick(n int) (pages []uint64) {
	all := a.Size() / pageSize
	if all <= uint64(n) {
		for addr := a.Start; addr < a.End; addr += pageSize {
			pages = append(pages, addr)
		}
		return pages
	}
	for range n {
		pages = append(pages, a.Start+rand.Uint64N(all)*pageSize)
	}
	slices.Sort(pages)
	return slices.Compact(pages)
}
