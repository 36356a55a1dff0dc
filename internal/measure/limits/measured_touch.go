package limits

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"offmap/internal/measure/probe"
	"offmap/memory"
)

// touchLimits are about the cost of the first access to a page.
func touchLimits() []Limit {
	return []Limit{{
		ID:       "first-touch",
		Title:    "The first touch of a secret page costs several times that of an ordinary one",
		Source:   sourceCommit + ": each page leaves the direct map when it is first used",
		Link:     linkCommit,
		How:      "A byte is written to each page of 8 MiB, in five rounds of secret, memfd and anonymous memory in turn, without huge pages; medians, less the time of writing the same bytes once more.",
		Expected: "A secret page takes more than twice as long as either kind of ordinary page",
		Means:    "Don't populate RAM that a guest doesn't use. A guest is slower when it touches its RAM for the first time, and not after that.",
		check:    func(ctx context.Context) (Observation, error) { return checkTouch(ctx, memory.Secret) },
	}, {
		ID:       "tlb-flushes",
		Title:    "Each secret page interrupts every CPU of the host to flush its TLB",
		Source:   sourceCommit + ": the page is flushed from the TLB of every CPU that may have it",
		Link:     linkCommit,
		How:      "Interrupts for TLB shootdowns and function calls (lines TLB and CAL of /proc/interrupts, all CPUs) while 8 MiB of secret memory is touched for the first time, and while as much of a memfd is.",
		Expected: "With n CPUs about n-1 for each secret page and next to none for an ordinary one, unless the CPUs flush each other by an instruction (AMD's INVLPGB)",
		Means:    "Populating a guest disturbs all others on the host. Huge secret pages would take one flush instead of 512; there are none.",
		check:    func(ctx context.Context) (Observation, error) { return checkFlushes(ctx, memory.Secret) },
	}}
}

const (
	touchSize   = 8 << 20
	touchRounds = 5
)

// where says where a time was measured.
func where() string {
	h := probe.ThisHost()
	if h.Accel == "tcg" {
		return fmt.Sprintf("measured under emulation (QEMU TCG, %d CPUs), which says nothing about TLBs and caches", h.CPUs)
	}
	return fmt.Sprintf("measured on %s, %d CPUs", h.Model, h.CPUs)
}

func checkTouch(ctx context.Context, b memory.Backend) (o Observation, err error) {
	kinds := []memory.Backend{b, memory.Memfd, memory.Anon}
	costs := make([][]time.Duration, len(kinds))
	for range touchRounds {
		for i, kind := range kinds {
			if err := ctx.Err(); err != nil {
				return o, err
			}
			cost, err := touchCost(kind)
			if err != nil {
				return o, err
			}
			costs[i] = append(costs[i], cost)
		}
	}
	first := costs[0][0]
	median := make([]time.Duration, len(kinds))
	for i, c := range costs {
		slices.Sort(c)
		median[i] = c[len(c)/2]
	}
	o.Holds = median[0] > 2*max(median[1], median[2])
	o.Text = fmt.Sprintf("%d ns a secret page (%d in the first round), %d memfd, %d anonymous; %s",
		median[0].Nanoseconds(), first.Nanoseconds(), median[1].Nanoseconds(), median[2].Nanoseconds(), where())
	return o, nil
}

// touchCost is the time of a page's first touch, less that of a second touch.
func touchCost(b memory.Backend) (_ time.Duration, err error) {
	ram, err := newRAM(b, touchSize)
	if err != nil {
		return 0, lacking(err)
	}
	defer ram.Close()
	if err := smallPages(ram); err != nil {
		return 0, err
	}
	first, err := touchAll(ram)
	if err != nil {
		return 0, err
	}
	again, err := touchAll(ram)
	return (first - again) / (touchSize / memory.PageSize), err
}

func checkFlushes(ctx context.Context, b memory.Backend) (o Observation, err error) {
	if runtime.NumCPU() < 2 {
		return o, skipped("one CPU has nobody to interrupt; give the lab more with --cpus")
	}
	var perPage [2]float64
	for i, kind := range []memory.Backend{b, memory.Memfd} {
		before, err := shootdowns()
		if err != nil {
			return o, err
		}
		if _, err := touchCost(kind); err != nil {
			return o, err
		}
		after, err := shootdowns()
		if err != nil {
			return o, err
		}
		perPage[i] = float64(after-before) / (touchSize / memory.PageSize)
	}
	o.Holds = perPage[0] > .5 && perPage[0] > 4*perPage[1]
	o.Text = fmt.Sprintf("%.2f interrupts a secret page, %.2f a memfd page, on %d CPUs", perPage[0], perPage[1], runtime.NumCPU())
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil && strings.Contains(string(info), " invlpgb") {
		o.Text += ", which have INVLPGB"
	}
	return o, ctx.Err()
}

// shootdowns is how many times since boot a CPU interrupted another to flush its TLB
// or to call a function, such as do_kernel_range_flush.
func shootdowns() (uint64, error) {
	text, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		return 0, err
	}
	var sum uint64
	lines := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TLB:" && f[0] != "CAL:" {
			continue
		}
		lines++
		for _, word := range f[1:] {
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				break // the description
			}
			sum += n
		}
	}
	if lines == 0 {
		return 0, skipped("/proc/interrupts has neither a TLB nor a CAL line")
	}
	return sum, nil
}
