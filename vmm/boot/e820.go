package boot

import (
	"fmt"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

// e820 makes the guest's memory map out of the layout: all RAM, but for the
// legacy hole between base memory and 1 MiB, of which the EBDA and the BIOS
// area are reserved because our tables are there. The first region must
// reach above 1 MiB.
func e820(l memory.Layout) ([]bootparam.E820Entry, error) {
	if len(l) == 0 || l[0].Start != 0 || l[0].End() <= highStart {
		return nil, fmt.Errorf("guest RAM %v: a Linux guest needs it from 0 to above 1 MiB", l)
	}
	span := func(start, end memory.GPA, typ uint32) bootparam.E820Entry {
		return bootparam.E820Entry{Addr: uint64(start), Size: uint64(end - start), Type: typ}
	}
	m := []bootparam.E820Entry{
		span(0, ebdaAddr, bootparam.E820Ram),
		span(ebdaAddr, vgaAddr, bootparam.E820Reserved),
		span(biosAddr, biosEnd, bootparam.E820Reserved),
		span(highStart, l[0].End(), bootparam.E820Ram),
	}
	for _, r := range l[1:] {
		m = append(m, span(r.Start, r.End(), bootparam.E820Ram))
	}
	if len(m) > bootparam.E820Max {
		return nil, fmt.Errorf("guest RAM has %d regions: the boot parameters hold %d e820 entries", len(l), bootparam.E820Max)
	}
	return m, nil
}
