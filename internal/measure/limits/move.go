package limits

import (
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// moveSizes is how much ordinary memory is tried in turn, in bytes: among
// more, some lies low enough for compaction to move it up.
var moveSizes = []int{32 << 20, 128 << 20, 384 << 20}

func checkUnmovable(ctx context.Context, b memory.Backend) (o Observation, err error) {
	a, err := newPopulated(b, 4<<20)
	if err != nil {
		return o, err
	}
	defer a.Close()
	before, err := a.frames()
	if err != nil {
		return o, err
	}
	for i, size := range moveSizes {
		var host unix.Sysinfo_t
		if err := unix.Sysinfo(&host); err != nil {
			return o, fmt.Errorf("sysinfo: %w", err)
		}
		if i > 0 && uint64(size) > host.Freeram*uint64(host.Unit)/4 {
			break // not at the host's cost
		}
		moved, of, err := moveOrdinary(size)
		if err != nil {
			return o, err
		}
		after, err := a.frames()
		if err != nil {
			return o, err
		}
		left := changed(before, after)
		o.Text = fmt.Sprintf("compaction moved %d of %d secret pages and %d of %d ordinary ones", left, len(before), moved, of)
		o.Holds = left == 0
		if moved > 0 {
			return o, nil
		}
		if ctx.Err() != nil {
			return o, ctx.Err()
		}
	}
	return o, skipped("%s, so that it proves nothing", o.Text)
}

// moveOrdinary has all memory compacted while there are size bytes of ordinary
// memory, of which the quarter is kept that lies lowest in physical memory:
// compaction moves pages up, into what is free there. It returns how many of
// its pages moved, and how many there were.
func moveOrdinary(size int) (moved, of int, err error) {
	a, err := newArea(memory.Anon, size)
	if err != nil {
		return 0, 0, err
	}
	defer a.Close()
	if err := unix.Madvise(a.mem, unix.MADV_NOHUGEPAGE); err != nil {
		return 0, 0, fmt.Errorf("MADV_NOHUGEPAGE: %w", err)
	}
	if _, err := a.populate(); err != nil {
		return 0, 0, err
	}
	before, err := a.frames()
	if err != nil {
		return 0, 0, err
	}
	highest := slices.Sorted(slices.Values(before))[len(before)/4]
	for i, f := range before {
		if f < highest {
			of++
			continue
		}
		off := i * memory.PageSize
		if err := unix.Madvise(a.mem[off:off+memory.PageSize], unix.MADV_DONTNEED); err != nil {
			return 0, 0, fmt.Errorf("MADV_DONTNEED: %w", err)
		}
	}
	if err := os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0); err != nil {
		return 0, 0, skipped("%v", err)
	}
	after, err := a.pagemap()
	if err != nil {
		return 0, 0, err
	}
	return changed(before, after), of, nil
}

// changed counts the pages that were there before and after, in another frame.
func changed(before, after []uint64) (n int) {
	for i := range before {
		if before[i]&pagePFN != 0 && after[i]&pagePFN != 0 && before[i]&pagePFN != after[i]&pagePFN {
			n++
		}
	}
	return n
}
