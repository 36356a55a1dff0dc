package limits

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// placeLimits are about the pages' place in physical memory.
func placeLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "unmovable",
			Title:    "The pages can't be moved",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "An attack of the audit on a child with 4 MiB of secret memory, and on one with anonymous memory: the kernel is asked to move the pages by move_pages(2) to another node, by MADV_COLLAPSE, and by compaction of all memory. The frames behind the pages are compared before and after.",
			Expected: "Ordinary pages move, secret ones stay",
			Means:    "Compaction, memory hot-unplug, CMA and NUMA balancing have to work around guest RAM. A guest's RAM stays on the node that its pages were first touched from: pin the VMM before.",
			check:    func(ctx context.Context) (Observation, error) { return checkUnmovable(ctx, b) },
		},
		{
			ID:       "zone-movable",
			Title:    "The pages stay out of ZONE_MOVABLE",
			Source:   sourceCommit + ", which leaves balancing against ZONE_MOVABLE and CMA for later",
			Link:     linkCommit,
			How:      "The frames of 1 MiB of secret memory and of a memfd, against the zones of /proc/zoneinfo. Boot with movablecore=SIZE for a kernel that has the zone.",
			Expected: "No secret page is in zone Movable, pages of the memfd are",
			Means:    "Memory that is kept for hot-unplug or CMA can't be guest RAM: a host with much of it runs out of memory for secret guests while that is still free.",
			check:    func(context.Context) (Observation, error) { return checkZones(b) },
		},
		{
			ID:       "small-pages",
			Title:    "4 KiB pages only",
			Source:   sourceHugepage + ": anonymous memory, tmpfs and files",
			Link:     linkHugepage,
			How:      "MADV_HUGEPAGE and MADV_COLLAPSE of 2 MiB of secret memory, and of anonymous memory; /proc/self/smaps says how much of it is in huge pages.",
			Expected: "The advice does nothing, the collapse is refused; anonymous memory is one huge page",
			Means:    "Guest RAM is mapped 4 KiB at a time, in the VMM, in KVM's page tables and in the guest's TLB entries. Compare with ordinary memory at equal page size, or the difference is that of huge pages.",
			check:    func(context.Context) (Observation, error) { return checkSmallPages(b) },
		},
		{
			ID:       "own-pages",
			Title:    "A secret shares no page with other data",
			Source:   sourceReshetova + ": mmap, and not mlock of a buffer",
			Link:     linkReshetova,
			How:      "Two secrets of 64 bytes: their addresses, the frames behind them if they can be seen, and the rest of their pages. Beside them, small buffers of this program's heap.",
			Expected: "Two pages, zeros behind the 64 bytes; buffers of the heap share pages",
			Means:    "No other data becomes slow or unreachable because it is next to guest RAM. But each secret, however small, takes a page, a hole in the direct map and 4 KiB of RLIMIT_MEMLOCK.",
			check: func(context.Context) (Observation, error) {
				var two [2]*area
				for i := range two {
					a, err := newArea(b, 64)
					if err != nil {
						return Observation{}, err
					}
					defer a.Close()
					if _, err := a.populate(); err != nil {
						return Observation{}, skipped("%v", err)
					}
					two[i] = a
				}
				return ownPages(two[0], two[1])
			},
		},
		{
			ID:       "pool",
			Title:    "Secret pages come from a pool of 2 MiB pages, to keep the direct map whole",
			Source:   sourcePool,
			Link:     linkPool,
			How:      "256 secret pages are populated. /proc/kpageflags tells what else is in their blocks of 2 MiB.",
			Expected: "Their blocks hold no other page that is in use",
			Means:    "The pool was dropped before the merge. Secret pages are allocated one by one, anywhere. Each block of 2 MiB with a secret page loses its large mapping, for everything else in it too, the kernel's own data included.",
			check:    func(context.Context) (Observation, error) { return checkPool(b) },
		},
	}
}

func checkUnmovable(ctx context.Context, b memory.Backend) (o Observation, err error) {
	target, err := attack(ctx, "migration", b, 0)
	if err != nil {
		return o, err
	}
	control, err := attack(ctx, "migration", memory.Anon, 0)
	if err != nil {
		return o, err
	}
	o.Text = fmt.Sprintf("secret memory: %s; anonymous memory: %s", target.Detail, control.Detail)
	if control.Pages == 0 {
		return o, skipped("%s, so that it proves nothing", o.Text)
	}
	o.Holds = target.Pages == 0
	return o, nil
}

func checkZones(b memory.Backend) (o Observation, err error) {
	text, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		return o, skipped("%v", err)
	}
	zones := parseZones(string(text))
	if !slices.ContainsFunc(zones, func(z zone) bool { return z.name == "Movable" && z.present > 0 }) {
		return o, skipped("this kernel has no memory in ZONE_MOVABLE: boot it with movablecore=SIZE")
	}
	var in [2]map[string]int
	for i, b := range []memory.Backend{b, memory.Memfd} {
		a, err := newPopulated(b, 1<<20)
		if err != nil {
			return o, err
		}
		defer a.Close()
		frames, err := a.frames()
		if err != nil {
			return o, err
		}
		in[i] = zonesOf(frames, zones)
	}
	if in[1]["Movable"] == 0 {
		return o, skipped("ZONE_MOVABLE is full: the memfd got none of it either")
	}
	return Observation{
		Text:  fmt.Sprintf("secret pages: %s; the memfd's: %s", byZone(in[0]), byZone(in[1])),
		Holds: in[0]["Movable"] == 0,
	}, nil
}

// byZone puts such a count into words.
func byZone(count map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		words = append(words, fmt.Sprintf("%d in zone %s", count[name], name))
	}
	return strings.Join(words, ", ")
}

// zonesOf counts frames by the name of their zone.
func zonesOf(frames []uint64, zones []zone) map[string]int {
	count := map[string]int{}
	for _, f := range frames {
		name := "none"
		for _, z := range zones {
			if f >= z.start && f < z.end {
				name = z.name
				if name == "Movable" { // its frames may be in another zone's span too
					break
				}
			}
		}
		count[name]++
	}
	return count
}

const hugeSize = 2 << 20

func checkSmallPages(b memory.Backend) (o Observation, err error) {
	target, text, err := collapse(b)
	if err != nil {
		return o, err
	}
	control, controlText, err := collapse(memory.Anon)
	if err != nil {
		return o, err
	}
	if control == 0 {
		return o, skipped("anonymous memory isn't collapsed into a huge page either: %s", controlText)
	}
	return Observation{
		Text:  fmt.Sprintf("%s, %d KiB of 2048 in huge pages; anonymous memory: %s, %d KiB", text, target, controlText, control),
		Holds: target == 0,
	}, nil
}

// collapse asks for a huge page in 2 MiB of memory, and returns how many KiB
// the kernel says are in one, and what it said to the calls.
func collapse(b memory.Backend) (kib int, text string, err error) {
	const collapseAdvice = 25 // MADV_COLLAPSE, Linux 6.1
	a, err := newArea(b, 2*hugeSize)
	if err != nil {
		return 0, "", err
	}
	defer a.Close()
	start := int(-a.addr() % hugeSize)
	block := a.mem[start : start+hugeSize]
	advice := unix.Madvise(a.mem, unix.MADV_HUGEPAGE)
	first := &area{backend: b, fd: -1, mem: block[:memory.PageSize]}
	if _, err := first.populate(); err != nil {
		return 0, "", skipped("%v", err)
	}
	collapsed := unix.Madvise(block, collapseAdvice)
	sizes, _, err := a.smaps()
	if err != nil {
		return 0, "", err
	}
	kib = sizes["AnonHugePages"] + sizes["ShmemPmdMapped"] + sizes["FilePmdMapped"]
	return kib, fmt.Sprintf("MADV_HUGEPAGE %s, MADV_COLLAPSE %s", outcome(advice), outcome(collapsed)), nil
}

// ownPages compares the pages of two areas of 64 bytes.
func ownPages(x, y *area) (o Observation, err error) {
	o.Holds = x.addr()/memory.PageSize != y.addr()/memory.PageSize
	o.Text = "two pages"
	if !o.Holds {
		o.Text = "one page"
	}
	fx, err := x.frames()
	fy, erry := y.frames()
	if err == nil && erry == nil {
		o.Holds = o.Holds && fx[0] != fy[0]
		o.Text += map[bool]string{true: " in one frame", false: " in two frames"}[fx[0] == fy[0]]
	}
	for i := range x.mem {
		x.mem[i], y.mem[i] = 0xff, 0xff
	}
	rest := 0
	for _, a := range []*area{x, y} {
		off := int(a.addr() % memory.PageSize)
		for i, c := range a.page() {
			if c != 0 && (i < off || i >= off+len(a.mem)) {
				rest++
			}
		}
	}
	o.Holds = o.Holds && rest == 0
	o.Text += fmt.Sprintf(", %d other bytes in them", rest)
	o.Text += fmt.Sprintf("; %d of 32 buffers of 64 bytes on the heap share a page with another", heapNeighbours())
	return o, nil
}

// checkPool looks for other pages in use in the 2 MiB blocks of secret pages.
func checkPool(b memory.Backend) (o Observation, err error) {
	a, err := newPopulated(b, 1<<20)
	if err != nil {
		return o, err
	}
	defer a.Close()
	frames, err := a.frames()
	if err != nil {
		return o, err
	}
	return poolOf(frames, frameFlags)
}

// poolOf judges the blocks of frames.
func poolOf(frames []uint64, flagsOf func(pfn uint64, n int) ([]uint64, error)) (o Observation, err error) {
	const perBlock = hugeSize / memory.PageSize
	blocks := map[uint64]bool{}
	for _, f := range frames {
		blocks[f/perBlock] = true
	}
	others, kernels := 0, 0
	for block := range blocks {
		flags, err := flagsOf(block*perBlock, perBlock)
		if err != nil {
			return o, err
		}
		for i, f := range flags {
			if f&(frameBuddy|frameNone) != 0 || slices.Contains(frames, block*perBlock+uint64(i)) {
				continue
			}
			others++
			if f&(frameSlab|framePageTable) != 0 {
				kernels++
			}
		}
	}
	return Observation{
		Text: fmt.Sprintf("%d pages in %d of the host's blocks of 2 MiB, with %d other pages in use, %d of them slabs and page tables of the kernel's",
			len(frames), len(blocks), others, kernels),
		Holds: others == 0,
	}, nil
}
