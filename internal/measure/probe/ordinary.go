package probe

import (
	"fmt"
	"io/fs"
	"slices"
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
		c.Status, c.Detail = Skip, "the kernel was booted with all of RAM: backend reserved needs the boot parameter memmap=SIZE$ADDRESS, root, and a kernel with /dev/mem that isn't locked down"
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
	if release, err := h.holdReserved(); err == nil {
		defer release()
	}
	// Without a mapping, ours or a guest's, the kernel knows no type of them.
	if types := memoryTypes(h.line(memoryTypeList), ranges); types != nil {
		c.Detail += "; mapped " + strings.Join(types, ", ")
		if !slices.Equal(types, []string{"write-back"}) {
			c.Status = Warn
			c.Detail += ": memory types other than write-back are slow (the MTRRs set them, or another program's mapping)"
		}
	}
	return c
}

// holdReserved maps a page of reserved memory.
func holdReserved() (release func() error, err error) {
	layout, err := memory.LayoutOf(memory.Region{Size: memory.PageSize})
	if err != nil {
		return nil, err
	}
	ram, err := memory.New(memory.Reserved, layout)
	if err != nil {
		return nil, err
	}
	return ram.Close, nil
}

// removed looks for what memory that leaves the kernel takes.
func (h *host) removed() Check {
	c := Check{Name: "removed", Status: OK}
	lack := Skip
	if h.cfg.Backend == memory.Removed {
		lack = Fail
	}
	pool, err := h.removedPool()
	if err != nil {
		c.Status, c.Detail = lack, err.Error()
		if lack == Fail {
			c.Fix = "sudo modprobe offmap, and run offmap with sudo"
		}
		return c
	}
	c.Detail = fmt.Sprintf("%s may be taken out of the kernel, in blocks of %s; %s are, and %s of that have no guest",
		mib(pool.Limit), mib(pool.Block), mib(pool.Removed), mib(pool.Free))
	if sys, err := fs.Sub(h.files, "sys"); err == nil {
		if fix, left := memory.BlocksLeftOffline(sys); left {
			c.Status, c.Detail = lack, "this kernel leaves memory that is given back to it unused"
			if lack == Fail {
				c.Fix = fix
			}
			return c
		}
	}
	if strings.Contains(h.line(hugePFN), "[never]") {
		c.Detail += "; while huge pages are switched off (transparent_hugepage/enabled), some kernels map it with 4 KiB entries"
	}
	return c
}

// hugePFN is the switch for huge pages. From 6.12 until 7.3-rc2 (e384abeb559d) it also
// governs entries of 2 MiB in PFNMAP mappings.
const hugePFN = "sys/kernel/mm/transparent_hugepage/enabled"

// memoryTypeList is the kernel's list of the memory types of ranges that are
// mapped and not its own RAM (arch/x86/mm/pat/memtype.c). It takes debugfs.
const memoryTypeList = "sys/kernel/debug/x86/pat_memtype_list"

// memoryTypes lists the types that such a list has of the ranges, each once.
func memoryTypes(list string, ranges []memory.ReservedRange) (types []string) {
	for line := range strings.Lines(list) {
		var start, end uint64 // end is behind the range
		var kind string
		if n, _ := fmt.Sscanf(line, "PAT: [mem 0x%x-0x%x] %s", &start, &end, &kind); n != 3 {
			continue
		}
		for _, r := range ranges {
			if start < r.End() && r.Start < end && !slices.Contains(types, kind) {
				types = append(types, kind)
			}
		}
	}
	slices.Sort(types)
	return types
}
