package limits

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"

	"offmap/audit/canary"
	"offmap/memory"
)

// wipeLimits are about the content of freed memory.
func wipeLimits() []Limit {
	return []Limit{{
		ID:       "wiped-when-freed",
		Title:    "Secret memory is wiped when it is freed, however its owner ended; ordinary memory is not",
		Source:   sourceReshetova + ", and Tycho Andersen's answer to that: a process that is crashed on purpose wipes nothing itself",
		Link:     linkReshetova,
		How:      "Two children plant random canaries in 8 MiB each of secret and of anonymous memory. One exits, the other is killed with SIGKILL. Then the whole direct map, to which freed pages return, is searched through /proc/kcore; unless the anonymous ones are found, that counts for nothing.",
		Expected: "No page of secret memory is found, neither after exit nor after SIGKILL; many of anonymous memory are",
		Means:    "Guest RAM is wiped without any code of the VMM running at its end. The VMM has to wipe copies in ordinary memory (a window's frames, buffers) itself, or the host needs init_on_free=1.",
		check:    func(ctx context.Context) (Observation, error) { return checkWipe(ctx, memory.Secret, scanKcore) },
	}}
}

func checkWipe(ctx context.Context, b memory.Backend, search scan) (o Observation, err error) {
	canaries, err := newCanaries(4)
	if err != nil {
		return o, err
	}
	if err := plantAndEnd(ctx, b, canaries); err != nil {
		return o, err
	}
	hits, err := search(ctx, canaries)
	if err != nil {
		return o, err
	}
	o.Text = fmt.Sprintf("of %d pages each, found in the direct map afterwards: secret memory %d after exit, %d after SIGKILL; anonymous memory %d and %d; init_on_free is %s",
		plantPages, hits[0].Pages, hits[2].Pages, hits[1].Pages, hits[3].Pages, initOnFree())
	if hits[1].Pages == 0 || hits[3].Pages == 0 {
		return o, fmt.Errorf("the search proves nothing, since it doesn't find ordinary memory either: %s", o.Text)
	}
	o.Holds = hits[0].Pages == 0 && hits[2].Pages == 0
	return o, nil
}

// plantPages is how many pages of each kind of memory a child plants: so many
// that other programs use few of them between its end and the search.
const plantPages = 2048

// plantAndEnd has two children plant two canaries each, in memory of backend b
// and in anonymous memory. Then the first exits and the second is killed. They
// live at the same time, so that the second doesn't start in what the first
// left.
func plantAndEnd(ctx context.Context, b memory.Backend, canaries []canary.Canary) error {
	var holders []*child
	defer func() {
		for _, h := range holders {
			h.end()
		}
	}()
	for c := canaries; len(c) > 0; c = c[2:] {
		h, err := plant(ctx, plantPages, 0, string(b), c[0].String(), string(memory.Anon), c[1].String())
		if err != nil {
			return err
		}
		holders = append(holders, h)
	}
	for _, kill := range []bool{false, true} {
		h := holders[0]
		holders = holders[1:]
		if kill {
			h.cmd.Process.Kill()
		}
		if status := h.end(); kill != (status.Signal() == syscall.SIGKILL) {
			return fmt.Errorf("a child that planted canaries ended with %s", describe(status))
		}
	}
	return nil
}

// initOnFree says whether the kernel's command line has all freed memory
// wiped. What it is without being named is the kernel's configuration.
func initOnFree() string {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "unknown"
	}
	state := "not on the kernel's command line"
	for _, word := range strings.Fields(string(line)) {
		if value, ok := strings.CutPrefix(word, "init_on_free="); ok {
			state = value
		}
	}
	return state
}
