package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"offmap/memory"
)

// processLimits are about core dumps and the image of a hibernated host.
func processLimits(b memory.Backend) []Limit {
	return []Limit{
		{
			ID:       "core-dump",
			Title:    "Secret memory is not in core dumps",
			Source:   sourceCode + ": VM_DONTDUMP",
			Link:     linkCode,
			How:      "An attack of the audit: a child that holds a canary in secret memory is made to want all of its memory dumped (MADV_DODUMP, coredump_filter) and dies of SIGABRT, and its core file is searched. The same with a memfd.",
			Expected: "Only the memfd's canary is in the core file",
			Means:    "A crash of the VMM leaves no guest RAM in /var/lib/systemd/coredump. What the VMM has copied out of guest RAM into its own buffers is dumped.",
			check:    func(ctx context.Context) (Observation, error) { return checkCore(ctx, b) },
		},
		{
			ID:       "no-hibernation",
			Title:    "The host can't hibernate while secret memory exists",
			Source:   sourceHibernate,
			Link:     linkHibernate,
			How:      "/sys/power/disk is read before a secret file is opened, while it is open, and after it was closed.",
			Expected: "[disabled] while it is open, and a way to hibernate before and after",
			Means:    "While one guest runs the whole host can't hibernate, so guest RAM never gets into the image. Suspend to RAM still works.",
			check:    func(context.Context) (Observation, error) { return checkHibernation(b) },
		},
	}
}

func checkCore(ctx context.Context, b memory.Backend) (o Observation, err error) {
	target, err := attack(ctx, "core-dump", b, 0)
	if err != nil {
		return o, err
	}
	control, err := attack(ctx, "core-dump", memory.Memfd, 0)
	if err != nil {
		return o, err
	}
	if control.Pages == 0 {
		return o, errors.New("the memfd's canary isn't in the core file either, so it proves nothing")
	}
	return Observation{
		Text:  fmt.Sprintf("canary in %d of %d pages in the core file, the memfd's in %d", target.Pages, attackPages, control.Pages),
		Holds: target.Pages == 0,
	}, nil
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
