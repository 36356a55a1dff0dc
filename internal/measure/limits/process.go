package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/internal/process/signals"
	"offmap/memory"
)

// processLimits are about what outlives a process's memory: its core dump,
// and the image of a hibernated host.
func processLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "core-dump",
			Title:    "Secret memory is not in core dumps",
			Source:   sourceCode + ": VM_DONTDUMP",
			Link:     linkCode,
			How:      "A child writes random canaries to secret memory, to secret memory that it has asked to be dumped (MADV_DODUMP) and to a memfd, and dies of SIGABRT; its core file is searched. /proc/self/smaps says whether the mapping is left out (VmFlags dd).",
			Expected: "Only the memfd's canary is in the core file",
			Means:    "A crash of the VMM leaves no guest RAM in /var/lib/systemd/coredump. What the VMM has copied out of guest RAM into its own buffers is dumped like all else.",
			check:    func(ctx context.Context) (Observation, error) { return checkCore(ctx, b) },
		},
		{
			ID:       "no-hibernation",
			Title:    "The host can't hibernate while secret memory exists",
			Source:   sourceHibernate,
			Link:     linkHibernate,
			How:      "/sys/power/disk is read before a secret file is opened, while it is open, and after it was closed.",
			Expected: "[disabled] while it is open, and a way to hibernate before and after",
			Means:    "One guest keeps the whole host from hibernating, so that its RAM never gets into the image. Suspend to RAM still works.",
			check:    func(context.Context) (Observation, error) { return checkHibernation(b) },
		},
	}
}

// coreResult is what a process says before it dumps core.
type coreResult struct {
	Canaries []string // masked
	Flagged  bool     // VmFlags dd
	Advised  bool     // dd is still there after MADV_DODUMP
	Dodump   string   // what MADV_DODUMP gave
}

// coreMemory is the backends of the child's canaries, for a target b.
func coreMemory(b memory.Backend) []memory.Backend { return []memory.Backend{b, b, memory.Memfd} }

func checkCore(ctx context.Context, b memory.Backend) (o Observation, err error) {
	dir, err := os.MkdirTemp("", "offmap-limits-*")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(dir)
	var r coreResult
	status, err := ask(ctx, func(cmd *exec.Cmd) { cmd.Dir = dir }, &r, "core", string(b))
	if err != nil {
		return o, err
	}
	flags := fmt.Sprintf("VmFlags dd %v, MADV_DODUMP %s and leaves dd %v", r.Flagged, r.Dodump, r.Advised)
	cores, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return o, err
	}
	if len(cores) != 1 {
		pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
		return o, skipped("%s; the child ended with %s and left no core file to search (core_pattern is %q, and RLIMIT_CORE may be 0)", flags, describe(status), strings.TrimSpace(string(pattern)))
	}
	var canaries []canary.Canary
	for _, s := range r.Canaries {
		c, err := canary.Parse(s)
		if err != nil {
			return o, err
		}
		canaries = append(canaries, c)
	}
	hits, err := canary.ScanFile(ctx, cores[0], canaries, nil)
	if err != nil {
		return o, err
	}
	target, asked, control := hits[0].Pages, hits[1].Pages, hits[2].Pages
	if control == 0 {
		return o, errors.New("the memfd's canary isn't in the core file either, so it proves nothing")
	}
	return Observation{
		Text: fmt.Sprintf("canary in %d pages of the core file, in %d with MADV_DODUMP, the memfd's in %d; %s",
			target, asked, control, flags),
		Holds: target == 0 && asked == 0,
	}, nil
}

// coreTask dies of SIGABRT, with a core dump.
func coreTask(say func(any) error, args []string) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &lim); err != nil {
		return fmt.Errorf("getrlimit RLIMIT_CORE: %w", err)
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &lim); err != nil {
		return fmt.Errorf("setrlimit RLIMIT_CORE: %w", err)
	}
	var r coreResult
	for i, b := range coreMemory(memory.Backend(args[0])) {
		a, err := newPopulated(b, attemptSize)
		if err != nil {
			return err
		}
		c, err := canary.New()
		if err != nil {
			return err
		}
		c.Plant(a.mem[memory.PageSize:])
		r.Canaries = append(r.Canaries, c.String())
		if i == 1 {
			r.Dodump = outcome(unix.Madvise(a.mem, unix.MADV_DODUMP))
		}
		_, flags, err := a.smaps()
		if err != nil {
			return err
		}
		dd := slices.Contains(flags, "dd")
		switch i {
		case 0:
			r.Flagged = dd
		case 1:
			r.Advised = dd
		}
	}
	_, err := signals.Default(unix.SIGABRT)
	if err := errors.Join(say(r), err); err != nil {
		return err
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGABRT); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	time.Sleep(10 * time.Second) // any of our threads may be the one to get it
	return errors.New("SIGABRT doesn't end this process")
}

func checkHibernation(b memory.Backend) (o Observation, err error) {
	var states [3]string // before, during, after
	read := func(i int) {
		text, err := os.ReadFile("/sys/power/disk")
		states[i] = strings.TrimSpace(string(text))
		if err != nil {
			states[i] = ""
		}
	}
	read(0)
	a, err := openArea(b, memory.PageSize)
	if err != nil {
		return o, err
	}
	read(1)
	a.Close()
	read(2)
	return judgeHibernation(states[0], states[1], states[2])
}

// judgeHibernation judges three states of /sys/power/disk, "" for none.
func judgeHibernation(before, during, after string) (Observation, error) {
	const disabled = "[disabled]"
	switch before {
	case "":
		return Observation{}, skipped("this kernel can't hibernate")
	case disabled:
		return Observation{}, skipped("hibernation is off already: lockdown, nohibernate, or another process's secret memory")
	}
	return Observation{
		Text:  fmt.Sprintf("%q before, %q while it is open, %q after", before, during, after),
		Holds: during == disabled && after == before,
	}, nil
}
