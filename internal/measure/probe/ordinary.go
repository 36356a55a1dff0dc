package probe

import (
	"fmt"
	"strings"

	"offmap/memory"
)

// hugetlb counts the huge pages that a guest could have.
func (h *host) hugetlb() Check {
	c := Check{Name: "hugetlb"}
	pages, err := h.hugePages()
	if err != nil {
		c.Status, c.Detail = Skip, err.Error()
		return c
	}
	const hugePage = 2 << 20
	room := pages.Available() * hugePage
	c.Status = OK
	c.Detail = fmt.Sprintf("%d of %d huge pages are free, for %s of guest RAM", pages.Available(), pages.Total, mib(room))
	if h.cfg.Backend == memory.Hugetlb && room < h.cfg.Memory {
		c.Status, c.Fix = Fail, pages.Fix(h.cfg.Memory)
	} else if pages.Total == 0 {
		c.Status, c.Detail = Skip, "no huge pages are set aside: backend hugetlb needs the sysctl vm.nr_hugepages"
	}
	return c
}

// reserved looks for memory that the kernel was booted without.
func (h *host) reserved() Check {
	c := Check{Name: "reserved", Status: OK}
	ranges, err := h.reservedRanges()
	switch {
	case err != nil:
		c.Status, c.Detail = Skip, err.Error()
		return c
	case ranges == nil:
		c.Status, c.Detail = Skip, "the kernel was booted with all of RAM: backend reserved needs "+reservedNeeds(false)
		return c
	}
	var have []string
	for _, r := range ranges {
		what := r.String()
		if r.Err != nil {
			c.Status = Warn
			what += " (can't be used: " + r.Err.Error() + ")"
		}
		have = append(have, what)
	}
	c.Detail = "set aside by the boot parameter memmap=: " + strings.Join(have, ", ")
	if c.Status == Warn {
		c.Detail += "; nothing can be done but to boot with another range"
	}
	return c
}
