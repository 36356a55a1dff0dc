package limits

import (
	"context"
	"fmt"
	"time"

	"offmap/memory"
)

// directMapLimits is what secret memory does to the kernel's mapping of all
// RAM.
func directMapLimits() []Limit {
	return []Limit{{
		ID:     "direct-map-fragmentation",
		Title:  "Secret memory splits the direct map's large pages, for good",
		Source: sourceCommit + ", which expects a cost that is bearable",
		Link:   linkCommit,
		How: "DirectMap4k, 2M and 1G of /proc/meminfo before, while 64 MiB of secret memory is populated (more, up to 512 MiB, where that splits nothing new), and after it is freed; then once more. " +
			"What this splits stays split.",
		Expected: "The part in 4 KiB pages grows at the cost of the larger ones, and doesn't shrink when the memory is freed",
		Means: "The host has the cost until it is booted again. It is bounded by the most secret memory that was ever in use at a time, since later pages come from blocks that are split already. " +
			"What it costs in TLB misses only real hardware tells.",
		check: func(ctx context.Context) (Observation, error) { return checkDirectMap(ctx, memory.Secret) },
	}}
}

// directMap is how much RAM the kernel maps with pages of each size, in MiB.
type directMap struct{ small, large, giant uint64 }

func readDirectMap() (d directMap, err error) {
	info, err := memory.ReadMeminfo()
	if err != nil {
		return d, err
	}
	d.small, d.large, d.giant = info.DirectMap()
	for _, n := range []*uint64{&d.small, &d.large, &d.giant} {
		*n >>= 20
	}
	if d == (directMap{}) {
		return d, skipped("/proc/meminfo has no DirectMap lines")
	}
	return d, nil
}

func (d directMap) String() string {
	return fmt.Sprintf("%d MiB in 4 KiB, %d in 2 MiB, %d in 1 GiB pages", d.small, d.large, d.giant)
}

// directMapRound is what one round of populating and freeing did.
type directMapRound struct {
	during, after directMap
	bytes         uint64
	perPage       time.Duration
}

const (
	directMapStep = 64 << 20
	directMapMost = 512 << 20
)

func checkDirectMap(ctx context.Context, b memory.Backend) (o Observation, err error) {
	before, err := readDirectMap()
	if err != nil {
		return o, err
	}
	if before.large == 0 && before.giant == 0 {
		return o, skipped("the direct map has nothing left to split: %v", before)
	}
	first, err := populateUntil(ctx, b, func(now directMap, size uint64) bool {
		return now.small > before.small || size >= directMapMost
	})
	if err != nil {
		return o, err
	}
	if first.during.small <= before.small {
		return o, skipped("%d MiB of %s memory found room in the part that is split already (%v): boot the host again to see it split", first.bytes>>20, b, before)
	}
	second, err := populateUntil(ctx, b, func(_ directMap, size uint64) bool { return size >= first.bytes })
	if err != nil {
		return o, err
	}
	o.Holds = first.after.small >= first.during.small
	o.Text = fmt.Sprintf("before: %v; with %d MiB of secret memory: %v; freed: %v; a second round split %d MiB more; %v a page in the first round, %v in the second",
		before, first.bytes>>20, first.during, first.after, max(second.during.small, first.after.small)-first.after.small,
		first.perPage.Round(10*time.Nanosecond), second.perPage.Round(10*time.Nanosecond))
	return o, nil
}

// populateUntil populates memory step by step until enough says that it is, and
// frees it.
func populateUntil(ctx context.Context, b memory.Backend, enough func(directMap, uint64) bool) (r directMapRound, err error) {
	var (
		all   []*memory.RAM
		spent time.Duration
	)
	defer func() {
		for _, ram := range all {
			ram.Close()
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		ram, err := newRAM(b, directMapStep)
		if err != nil {
			return r, lacking(err)
		}
		all = append(all, ram)
		took, err := touchAll(ram)
		if err != nil {
			return r, err
		}
		spent += took
		r.bytes += directMapStep
		if r.during, err = readDirectMap(); err != nil {
			return r, err
		}
		if enough(r.during, r.bytes) {
			break
		}
	}
	r.perPage = spent / time.Duration(r.bytes/memory.PageSize)
	for _, ram := range all {
		if err := ram.Close(); err != nil {
			return r, err
		}
	}
	r.after, err = readDirectMap()
	return r, err
}

// newRAM is guest memory of size bytes without a guest.
func newRAM(b memory.Backend, size uint64) (*memory.RAM, error) {
	layout, err := memory.LayoutOf(memory.Region{Size: size})
	if err != nil {
		return nil, err
	}
	return memory.New(b, layout)
}

// touchAll writes a byte of each page and returns the time that took. With
// ReadAt and WriteAt, a page that the kernel refuses is an error and no SIGBUS.
func touchAll(ram *memory.RAM) (time.Duration, error) {
	one := []byte{1}
	start := time.Now()
	for gpa := memory.GPA(0); gpa < memory.GPA(ram.Layout().Size()); gpa += memory.PageSize {
		if _, err := ram.WriteAt(one, gpa); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
