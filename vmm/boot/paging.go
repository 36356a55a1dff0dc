package boot

import (
	"encoding/binary"
	"fmt"

	"offmap/memory"
)

// Page-table entry bits, Intel SDM vol. 3 §4.5.4. Accessed and dirty are set
// from the start so that walks never need to write.
const (
	ptePresent  = 1 << 0
	pteWrite    = 1 << 1
	pteUser     = 1 << 2
	pteAccessed = 1 << 5
	pteDirty    = 1 << 6
	ptePS       = 1 << 7
)

const (
	tableEntries = 512
	largePage    = 2 << 20               // bytes that a PD entry maps
	pdSpan       = tableEntries << 21    // bytes that a page directory maps
	pdptSpan     = tableEntries * pdSpan // bytes that a PDPT maps
)

// tablesSize is the room, in bytes, that identity tables up to top take.
func tablesSize(top memory.GPA) uint64 {
	pds := divUp(uint64(top), pdSpan)
	return (1 + divUp(pds, tableEntries) + pds) * memory.PageSize
}

// identity writes four-level page tables at base that map [0, top) onto
// itself with 2 MiB pages, and returns CR3's value. Top is rounded up to a
// whole large page. User pages are open to CPL 3.
//
// The tables lie in one run: the PML4, then the PDPTs, then the PDs.
func identity(g memory.Guest, base, top memory.GPA, user bool) (uint64, error) {
	if top == 0 || uint64(top) > tableEntries*pdptSpan/2 {
		return 0, fmt.Errorf("page tables for guest addresses up to %s: not a canonical range", top)
	}
	flags := uint64(ptePresent | pteWrite | pteAccessed)
	if user {
		flags |= pteUser
	}
	pages := divUp(uint64(top), largePage)
	pds := divUp(pages, tableEntries)
	pdpts := divUp(pds, tableEntries)
	pdptAt := uint64(base) + memory.PageSize
	pdAt := pdptAt + pdpts*memory.PageSize

	var buf [memory.PageSize]byte
	table := func(at, n uint64, entry func(i uint64) uint64) error {
		clear(buf[:])
		for i := range n {
			binary.LittleEndian.PutUint64(buf[8*i:], entry(i))
		}
		return write(g, memory.GPA(at), buf[:], "page tables")
	}
	err := table(uint64(base), pdpts, func(i uint64) uint64 { return pdptAt + i*memory.PageSize | flags })
	for t := uint64(0); t < pdpts && err == nil; t++ {
		first := t * tableEntries
		err = table(pdptAt+t*memory.PageSize, min(pds-first, tableEntries),
			func(i uint64) uint64 { return pdAt + (first+i)*memory.PageSize | flags })
	}
	for t := uint64(0); t < pds && err == nil; t++ {
		first := t * tableEntries
		err = table(pdAt+t*memory.PageSize, min(pages-first, tableEntries),
			func(i uint64) uint64 { return (first+i)*largePage | flags | pteDirty | ptePS })
	}
	return uint64(base), err
}

func divUp(a, b uint64) uint64 { return (a + b - 1) / b }

// alignUp rounds a up to a multiple of n, a power of two. The caller knows
// that the sum fits.
func alignUp(a, n uint64) uint64 { return (a + n - 1) &^ (n - 1) }

// write copies p to guest RAM and names what it was in the error.
func write(g memory.Guest, at memory.GPA, p []byte, what string) error {
	if _, err := g.WriteAt(p, at); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
