package audit

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
)

// sampled is how many pages of each mapping an attack tries that reads word by
// word. A guest that boots Linux plants its canary in a tenth of its RAM. The
// chance that so many random pages have no canary is 1 in 10^11.
const sampled = 256

// sample lists up to n random pages of each of the target's mappings: one of each
// mapping, another of each, and so on, so that an attack that stops early has tried
// all mappings alike. Of anonymous memory it leaves out pages that were never
// touched. Of files it can't: the VMM's page tables don't show pages that only the
// guest has touched, nor the bridge's view of secret memory.
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
