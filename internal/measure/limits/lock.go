package limits

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// lockLimits are about locking, eviction and swap.
func lockLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "mlock",
			Title:    "mlock and munlock of secret memory fail",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "mlock(2) and munlock(2) of a populated secret mapping and of a memfd's.",
			Expected: "Both fail",
			Means:    "Secret memory is always locked. A VMM that calls mlock on all guest RAM must leave it out, or ignore the error. Where munlock returns 0, it unlocks nothing: see mlockall.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"mlock", 0, func(a *area) error { return unix.Mlock(a.mem) }},
					{"munlock", 0, func(a *area) error { return unix.Munlock(a.mem) }},
				})
			},
		},
		{
			ID:       "mlockall",
			Title:    "mlockall and munlockall ignore secret memory",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "In a child, mlockall(MCL_CURRENT|MCL_ONFAULT) and munlockall(2), with a secret mapping and a memfd's; after each call /proc/self/smaps says whether they are locked (VmFlags lo).",
			Expected: "The calls change nothing for the secret mapping; the memfd's is locked between them and only then",
			Means:    "A VMM may use mlockall for itself, and can't unlock guest RAM by munlockall, even by mistake. Where pages are charged at their first touch (memlock-touch) a secret mapping isn't marked as locked, and VmLck of /proc/PID/status doesn't count it; its pages are unevictable all the same.",
			check:    func(ctx context.Context) (Observation, error) { return checkMlockall(ctx, b) },
		},
		{
			ID:       "unevictable",
			Title:    "The pages are unevictable",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "The flags of each page's frame in /proc/kpageflags, for a secret mapping and a memfd's.",
			Expected: "Every secret page is on the unevictable list (KPF_UNEVICTABLE), no page of the memfd is",
			Means:    "Guest RAM counts in full against the host's memory, whatever the pressure: no overcommit. It shows in Unevictable of /proc/meminfo; in a mlocked figure only on kernels that check RLIMIT_MEMLOCK at mmap (memlock).",
			check: func(context.Context) (Observation, error) {
				return onOneCPU(func() (Observation, error) { return checkUnevictable(b) })
			},
		},
		{
			ID:       "no-swap",
			Title:    "The pages are never swapped out",
			Source:   sourceCommit,
			Link:     linkCommit,
			How:      "MADV_PAGEOUT, which asks for reclaim at once, on populated secret memory and on memory that can be reclaimed here: anonymous memory if there is a swap area, pages of a file otherwise. /proc/self/pagemap tells which pages are left.",
			Expected: "EINVAL, as for locked memory, or no effect: every secret page stays",
			Means:    "Nothing of the guest reaches a swap area. The host can't take RAM back from an idle guest either.",
			check: func(context.Context) (Observation, error) {
				a, err := newPopulated(b, attemptSize)
				if err != nil {
					return Observation{}, err
				}
				defer a.Close()
				return onOneCPU(func() (Observation, error) { return checkPageout(a) })
			},
		},
		{
			ID:       "no-populating",
			Title:    "The pages can't be populated by one call",
			Source:   sourceExclusive + ", where the flag implied MAP_POPULATE",
			Link:     linkExclusive,
			How:      "MADV_POPULATE_WRITE and fallocate(2) on secret memory and on a memfd; mmap(2) with MAP_POPULATE, after which mincore(2) counts the pages.",
			Expected: "Refused, since populating goes through GUP; MAP_POPULATE succeeds and populates nothing",
			Means:    "RAM is populated by touching every page. A VMM that wants that before the guest starts should touch pages by read(2) from /dev/zero, which returns an error where a store raises SIGBUS.",
			check: func(context.Context) (Observation, error) {
				return refused(b, []attempt{
					{"MADV_POPULATE_WRITE", 0, func(a *area) error { return unix.Madvise(a.mem, unix.MADV_POPULATE_WRITE) }},
					{"fallocate", 0, func(a *area) error { return unix.Fallocate(a.fd, 0, 0, attemptSize) }},
					{"MAP_POPULATE", 0, mapPopulated},
				})
			},
		},
	}
}

// mapPopulated maps a fresh file with MAP_POPULATE. It returns nil if that populated
// the mapping.
func mapPopulated(a *area) error {
	fresh, err := openArea(a.backend, attemptSize)
	if err != nil {
		return err
	}
	defer fresh.Close()
	fresh.mem, err = unix.Mmap(fresh.fd, 0, attemptSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return err
	}
	n, err := fresh.resident()
	if err == nil && n == 0 {
		err = fmt.Errorf("gives 0 of %d pages", attemptSize/memory.PageSize)
	}
	return err
}

// lockedStates says whether an area and an ordinary one were locked: before,
// after mlockall, and after munlockall.
type lockedStates struct{ Target, Control [3]bool }

func checkMlockall(ctx context.Context, b memory.Backend) (o Observation, err error) {
	var s lockedStates
	if _, err := ask(ctx, nil, &s, "mlockall", string(b)); err != nil {
		return o, err
	}
	if s.Control != [3]bool{false, true, false} {
		return o, fmt.Errorf("mlockall and munlockall didn't lock and unlock ordinary memory: %v", s.Control)
	}
	names := map[bool]string{true: "locked", false: "not locked"}
	return Observation{
		Text: fmt.Sprintf("%s before, %s after mlockall, %s after munlockall; ordinary memory: not locked, locked, not locked",
			names[s.Target[0]], names[s.Target[1]], names[s.Target[2]]),
		Holds: s.Target[0] == s.Target[1] && s.Target[1] == s.Target[2],
	}, nil
}

func mlockallTask(say func(any) error, args []string) error {
	var areas [2]*area
	for i, b := range []memory.Backend{memory.Backend(args[0]), memory.Memfd} {
		a, err := newPopulated(b, attemptSize)
		if err != nil {
			return err
		}
		defer a.Close()
		areas[i] = a
	}
	var s lockedStates
	for i, change := range []func() error{
		func() error { return nil },
		// On fault, so as not to populate all memory that Go has reserved.
		func() error { return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_ONFAULT) },
		unix.Munlockall,
	} {
		if err := change(); err != nil {
			return skipped("mlockall: %v (RLIMIT_MEMLOCK, or CAP_IPC_LOCK)", err)
		}
		for j, locked := range []*[3]bool{&s.Target, &s.Control} {
			_, flags, err := areas[j].smaps()
			if err != nil {
				return err
			}
			locked[i] = slices.Contains(flags, "lo")
		}
	}
	return say(s)
}

// onOneCPU calls check on one CPU. A new page is first in a per-CPU batch and then
// on its LRU list, where reclaim finds it; MADV_COLD and MADV_PAGEOUT drain the
// batch of the CPU that they run on.
func onOneCPU(check func() (Observation, error)) (o Observation, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return o, fmt.Errorf("sched_getaffinity: %w", err)
	}
	for cpu := range len(old) * 64 {
		if old.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return o, fmt.Errorf("sched_setaffinity: %w", err)
	}
	defer unix.SchedSetaffinity(0, &old)
	return check()
}

func checkUnevictable(b memory.Backend) (o Observation, err error) {
	var found [2]int
	for i, b := range []memory.Backend{b, memory.Memfd} {
		a, err := newPopulated(b, attemptSize)
		if err != nil {
			return o, err
		}
		defer a.Close()
		drain, err := newPopulated(memory.Anon, attemptSize)
		if err != nil {
			return o, err
		}
		err = unix.Madvise(drain.mem, unix.MADV_COLD)
		drain.Close()
		if err != nil {
			return o, fmt.Errorf("MADV_COLD of anonymous memory: %w", err)
		}
		frames, err := a.frames()
		if err != nil {
			return o, err
		}
		for _, f := range frames {
			flags, err := frameFlags(f, 1)
			if err != nil {
				return o, err
			}
			if flags[0]&frameUnevictable != 0 {
				found[i]++
			}
		}
	}
	const pages = attemptSize / memory.PageSize
	return Observation{
		Text:  fmt.Sprintf("%d of %d secret pages are unevictable, %d of %d ordinary ones", found[0], pages, found[1], pages),
		Holds: found[0] == pages && found[1] == 0,
	}, nil
}

func checkPageout(a *area) (o Observation, err error) {
	control, what, err := reclaimable()
	if err != nil {
		return o, err
	}
	defer control.Close()
	const pages = attemptSize / memory.PageSize
	said, left, err := a.pageout()
	if err != nil {
		return o, err
	}
	_, controlLeft, err := control.pageout()
	if err != nil {
		return o, err
	}
	o.Text = fmt.Sprintf("MADV_PAGEOUT %s, and %d of %d pages stay; of %s %d", outcome(said), left, pages, what, controlLeft)
	if controlLeft == pages {
		return o, skipped("%s, so that it proves nothing", o.Text)
	}
	o.Holds = left == pages
	return o, nil
}

// reclaimable makes populated memory that this host can reclaim, and says what kind.
func reclaimable() (*area, string, error) {
	swaps, _ := os.ReadFile("/proc/swaps") // a heading, and a line each
	if strings.Count(string(swaps), "\n") > 1 {
		a, err := newPopulated(memory.Anon, attemptSize)
		return a, "anonymous memory", err
	}
	f, err := diskFile()
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, attemptSize)); err != nil {
		return nil, "", err
	}
	if err := f.Sync(); err != nil { // dirty pages aren't reclaimed
		return nil, "", err
	}
	a := &area{backend: "file", fd: -1}
	a.mem, err = unix.Mmap(int(f.Fd()), 0, attemptSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, "", fmt.Errorf("mmap of a file: %w", err)
	}
	var sum byte
	for off := 0; off < attemptSize; off += memory.PageSize {
		sum |= a.mem[off]
	}
	if sum != 0 {
		return nil, "", fmt.Errorf("a file of zeros holds %d", sum)
	}
	return a, "a file (there is no swap area)", nil
}

// pageout asks for the area to be reclaimed. It returns the error of the call, and
// how many pages are still mapped.
func (a *area) pageout() (said error, left int, err error) {
	said = unix.Madvise(a.mem, unix.MADV_PAGEOUT)
	entries, err := a.pagemap()
	for _, e := range entries {
		if e&pagePresent != 0 {
			left++
		}
	}
	return said, left, err
}
