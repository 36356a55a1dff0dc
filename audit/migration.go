package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// migration has the kernel copy guest RAM to other page frames.
var migration = Avenue{
	Name: "migration", Attack: attackMigration,
	About: "has the kernel move guest RAM to other page frames: move_pages(2), MADV_COLLAPSE (with shmem_enabled on), compaction",
}

func attackMigration(ctx context.Context, t Target) (Finding, error) {
	pages, err := t.marked(ctx)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{Bytes: int64(len(pages)) * pageSize}
	// Marking read all pages, for which a window's pager moved them to other
	// frames. Pages that still change by themselves are left out.
	if _, err := t.changed(ctx, pages); err != nil {
		return f, err
	}
	restless, err := t.changed(ctx, pages)
	if err != nil {
		return f, err
	}
	for _, p := range restless {
		delete(pages, p)
	}
	moved := map[place]bool{}
	var by []string
	for _, way := range []struct {
		name string
		move func(context.Context, Target, *Finding) error
	}{
		{"move_pages", moveNodes},
		{"MADV_COLLAPSE", collapse},
		{"compaction", compact},
	} {
		if err := way.move(ctx, t, &f); err != nil {
			return f, fmt.Errorf("%s: %w", way.name, err)
		}
		changed, err := t.changed(ctx, pages)
		if err != nil {
			return f, err
		}
		for _, p := range changed {
			moved[p] = true
		}
		by = append(by, fmt.Sprintf("%s %d", way.name, len(changed)))
	}
	if len(moved) == 0 {
		if err := t.huge(); err != nil {
			return f, err
		}
	}
	f.Pages = len(moved)
	f.Detail = fmt.Sprintf("of %d pages with the canary, moved by %s", len(pages), strings.Join(by, ", "))
	return f, nil
}

// huge returns an error if the target has memory that moves by none of the ways
// that this attack has.
func (t Target) huge() error {
	nodes, err := memoryNodes()
	if err != nil || len(nodes) > 1 {
		return err
	}
	return t.stealAll(func(name string, fd int) error {
		if isHuge(fd) {
			return fmt.Errorf("%w: huge pages move between NUMA nodes only, of which there is one", ErrInapplicable)
		}
		return nil
	})
}

// changed lists the pages that have another frame now, and updates pages.
func (t Target) changed(ctx context.Context, pages map[place]uint64) ([]place, error) {
	now, err := t.frames(ctx)
	if err != nil {
		return nil, err
	}
	var changed []place
	for p, frame := range pages {
		if f := now[p]; f != 0 && f != frame {
			changed = append(changed, p)
			pages[p] = f
		}
	}
	return changed, nil
}

// marked lists the target's pages with the canary, each once, and their frames, so
// as to know which pages to watch. It reads files in memory, secret ones too, by
// taking their descriptors, and the rest by process_vm_readv(2).
func (t Target) marked(ctx context.Context) (map[place]uint64, error) {
	frames, err := t.frames(ctx)
	if err != nil {
		return nil, err
	}
	marked, seen := map[place]uint64{}, map[uint64]bool{}
	mark := func(p place, page []byte) {
		frame, ok := frames[p]
		if ok && !seen[frame] && t.Canary.Find(page, nil) != nil {
			marked[p], seen[frame] = frame, true
		}
	}
	err = t.eachMemory(func(file uint64, mem []byte) error {
		return eachResident(mem, make([]byte, len(mem)/pageSize), func(run []byte) error {
			return guarded(func() {
				for ; len(run) > 0; run = run[pageSize:] {
					mark(place{file, addressOf(run) - addressOf(mem)}, run[:pageSize])
				}
			})
		})
	})
	if err != nil {
		return nil, err
	}
	_, err = t.sweep(ctx, pageSize, func(p []byte, addr uint64) (int, error) {
		n, err := readProcess(t.PID, p, addr)
		if n == pageSize {
			mark(place{at: addr}, p)
		}
		return n, err
	})
	if err == nil && len(marked) == 0 {
		err = errors.New("found none of the guest's pages with the canary, which the attack would watch")
	}
	return marked, err
}

// moveNodes moves memory to each NUMA node in turn, if there are several.
func moveNodes(ctx context.Context, t Target, f *Finding) error {
	nodes, err := memoryNodes()
	if err != nil || len(nodes) < 2 {
		return err
	}
	pages, _, err := t.sample(ctx, math.MaxInt)
	if err != nil {
		return err
	}
	const atOnce = 4096
	for _, node := range nodes {
		for part := range slices.Chunk(pages, atOnce) {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := len(part)
			addrs, to, status := make([]uintptr, n), make([]int32, n), make([]int32, n)
			for i := range addrs {
				addrs[i], to[i] = uintptr(part[i]), int32(node)
			}
			if err := movePages(t.PID, addrs, to, status); err != nil {
				return err
			}
			for _, s := range status {
				if s < 0 {
					f.refused(unix.Errno(-s))
				}
			}
		}
	}
	return nil
}

// memoryNodes lists the NUMA nodes with memory. It is empty without NUMA.
func memoryNodes() ([]int, error) {
	text, err := os.ReadFile("/sys/devices/system/node/has_memory")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseList(strings.TrimSpace(string(text)))
}

// parseList reads a list as in cpulist and nodelist, such as 0-2,5.
func parseList(text string) ([]int, error) {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err1 := strconv.Atoi(first)
		hi, err2 := strconv.Atoi(last)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("list %q: %w", text, err)
		}
		for ; lo <= hi; lo++ {
			list = append(list, lo)
		}
	}
	return list, nil
}

// hugePage is the size in bytes of the pages that MADV_COLLAPSE makes.
const hugePage = 2 << 20

// collapse has the kernel copy small pages into huge ones. It first splits the
// target's huge pages. It collapses files in a mapping of its own, at an aligned
// address.
func collapse(ctx context.Context, t Target, f *Finding) (err error) {
	areas, err := t.areas()
	if err != nil {
		return err
	}
	var large, split []area
	for _, a := range areas {
		a.Start, a.End = (a.Start+hugePage-1)&^(hugePage-1), a.End&^(hugePage-1)
		if a.Start >= a.End {
			continue
		}
		large = append(large, a)
		for at := a.Start; at < a.End; at += hugePage {
			split = append(split, area{Start: at, End: at + pageSize})
		}
	}
	// Advice on a part of a huge page splits it.
	if _, err := t.advise(ctx, split, unix.MADV_COLD); err != nil {
		return err
	}
	refused, err := t.advise(ctx, large, unix.MADV_COLLAPSE)
	f.refused(refused)
	if err != nil {
		return err
	}
	// Without this, some kernels don't collapse files in memory.
	restore, err := tune("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return t.stealAll(func(name string, fd int) error {
		if !isMemory(name) {
			return nil
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Size < hugePage {
			return err
		}
		mem, unmap, err := mapAligned(fd, st.Size&^(hugePage-1), hugePage)
		if err != nil {
			return err
		}
		defer unmap()
		for part := range slices.Chunk(mem, hugePage) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := unix.Madvise(part, unix.MADV_COLLAPSE); err != nil {
				f.refused(err)
			}
		}
		return nil
	})
}

// fragment is how many bytes of memory are freed in single pages.
const fragment = 64 << 20

// compact fragments some memory, and then has the kernel compact all memory.
func compact(ctx context.Context, _ Target, f *Finding) error {
	mem, err := unix.Mmap(-1, 0, fragment, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(mem)
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		return fmt.Errorf("madvise MADV_NOHUGEPAGE: %w", err)
	}
	for i := 0; i < len(mem); i += pageSize {
		mem[i] = 1
	}
	for i := 0; i < len(mem); i += 2 * pageSize {
		if err := unix.Madvise(mem[i:i+pageSize], unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("madvise MADV_DONTNEED: %w", err)
		}
	}
	err = os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		f.refused(err)
		return nil
	}
	return err
}
