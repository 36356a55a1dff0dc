package limits

import (
	"context"
	"fmt"
	"math"

	"offmap/guest/payload"
	"offmap/internal/measure/probe"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

// uncachedLimits are about memory that isn't cached.
func uncachedLimits() []Limit {
	return []Limit{{
		ID:       "uncached",
		Title:    "memfd_secret doesn't keep secrets out of the caches; a guest can, at a price",
		Source:   sourceReshetova + ", wanted against speculation; memfd_secret had a flag for it up to its tenth version",
		Link:     linkReshetova,
		How:      "A guest reads and writes two buffers of 2 MiB, in sequence and at random. Its own page tables map the second uncached (PCD and PWT, index 3 of the PAT). The fastest of three runs counts; equal times mean that this KVM ignores what the guest's page tables say.",
		Expected: "Uncached accesses take at least three times as long",
		Means:    "A guest can map its keys uncached, and pays for it; the VMM can't do it for the guest. KVM may ignore it: it does with shadow page tables, and with EPT unless devices are assigned. AMD's nested paging should obey it.",
		check:    func(ctx context.Context) (Observation, error) { return checkUncached(ctx, mapUncached) },
	}}
}

const (
	uncachedBuffers  = 16 << 20
	uncachedBuffer   = 2 << 20
	uncachedAccesses = 1 << 16
	uncachedRounds   = 3 // of which the fastest counts
)

func checkUncached(ctx context.Context, change func(memory.Guest, boot.CPU) error) (o Observation, err error) {
	var cached, uncached [4]int
	for range uncachedRounds {
		_, said, err := runPayload(ctx, memory.Anon, attach.Direct, "uncached",
			boot.PayloadConfig{Args: []uint64{uncachedBuffers, uncachedAccesses}}, change)
		if err != nil {
			return o, err
		}
		var n int
		var wb, uc [4]int
		if _, err := fmt.Sscanf(said, payload.UncachedReport, &n, &wb[0], &wb[1], &wb[2], &wb[3], &uc[0], &uc[1], &uc[2], &uc[3]); err != nil {
			return o, fmt.Errorf("the guest said %q: %w", said, err)
		}
		for i := range wb {
			cached[i], uncached[i] = least(cached[i], wb[i]), least(uncached[i], uc[i])
		}
	}
	o.Text = "cycles an access, write-back and uncached:"
	slower := math.Inf(1)
	for i, kind := range []string{"read in sequence", "write in sequence", "read at random", "write at random"} {
		ratio := float64(uncached[i]) / float64(cached[i])
		slower = min(slower, ratio)
		o.Text += fmt.Sprintf(" %s %.1f and %.1f (%.1f times),", kind, float64(cached[i])/uncachedAccesses, float64(uncached[i])/uncachedAccesses, ratio)
	}
	o.Text += " " + where()
	if probe.ThisHost().Accel == "tcg" {
		return o, skipped("an emulated CPU has no caches: %s", o.Text)
	}
	o.Holds = slower >= 3
	if !o.Holds {
		o.Text += ": this KVM ignores the guest's memory types"
	}
	return o, nil
}

// least is the smaller of two, of which the first may be missing.
func least(have, n int) int {
	if have == 0 {
		return n
	}
	return min(have, n)
}

// mapUncached makes the second buffer uncached.
func mapUncached(g memory.Guest, cpu boot.CPU) error {
	return boot.MapUncached(g, cpu, uncachedBuffers+uncachedBuffer)
}
