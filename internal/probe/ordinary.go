package probe

import (
	"fmt"
	"strings"
)

// hugePages is the directory of the huge pages that backend hugetlb takes
// (Documentation/admin-guide/mm/hugetlbpage.rst).
const hugePages = "sys/kernel/mm/hugepages/hugepages-2048kB/"

const hugePage = 2 << 20

// hugetlb counts the huge pages that a guest could have.
func (h *host) hugetlb() Check {
	c := Check{Name: "hugetlb", Status: OK}
	free, ok := h.number(hugePages + "free_hugepages")
	if !ok {
		c.Status, c.Detail = Skip, "this kernel has no huge pages of 2 MiB"
		return c
	}
	total, _ := h.number(hugePages + "nr_hugepages")
	promised, _ := h.number(hugePages + "resv_hugepages")
	free -= min(free, promised)
	c.Detail = fmt.Sprintf("%d of %d huge pages are free, for %s of guest RAM", free, total, mib(free*hugePage))
	if h.cfg.Backend == "hugetlb" && free*hugePage < h.cfg.Memory {
		missing := (h.cfg.Memory - free*hugePage + hugePage - 1) / hugePage
		c.Status = Fail
		c.Fix = fmt.Sprintf("sudo sysctl vm.nr_hugepages=%d", total+missing)
	}
	return c
}

// reserved looks for memory that the kernel was booted without.
func (h *host) reserved() Check {
	c := Check{Name: "reserved", Status: OK}
	var ranges []string
	for _, w := range strings.Fields(h.line("proc/cmdline")) {
		if list, ok := strings.CutPrefix(w, "memmap="); ok {
			for _, r := range strings.Split(list, ",") {
				if strings.Contains(r, "$") {
					ranges = append(ranges, r)
				}
			}
		}
	}
	if ranges == nil {
		c.Status = Skip
		c.Detail = "the kernel was booted with all of RAM: backend reserved needs the boot parameter memmap=SIZE$ADDRESS"
		return c
	}
	c.Detail = "set aside by the boot parameter memmap=: " + strings.Join(ranges, ", ")
	return c
}
