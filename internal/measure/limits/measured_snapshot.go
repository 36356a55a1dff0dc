package limits

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// snapshotLimits are about saving guest RAM.
func snapshotLimits() []Limit {
	return []Limit{{
		ID:       "snapshot",
		Title:    "A snapshot of secret RAM is in ordinary memory, and in the clear",
		Source:   sourceCommit + ": the memory remains accessible to what copies from the process's own address space",
		Link:     linkCommit,
		How:      "256 pages of secret memory with a canary are written to a memfd with write(2), as for a snapshot in a file; 256 pages with another canary are not. Then the direct map is searched for both through /proc/kcore.",
		Expected: "write(2) works, and every page that was written is found; of the others none is",
		Means:    "A VMM that saves or migrates its guest should encrypt page by page, from the secret mapping into a small buffer that it wipes. Direct I/O, which would do without the page cache, is refused (see gup-refused).",
		check:    func(ctx context.Context) (Observation, error) { return checkSnapshot(ctx, memory.Secret, scanKcore) },
	}}
}

const snapshotPages = 256

func checkSnapshot(ctx context.Context, b memory.Backend, search scan) (o Observation, err error) {
	canaries, err := newCanaries(2)
	if err != nil {
		return o, err
	}
	saved, err := planted(b, snapshotPages, canaries[0])
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, saved.Close()) }()
	kept, err := planted(b, snapshotPages, canaries[1])
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, kept.Close()) }()

	file, err := unix.MemfdCreate("offmap-snapshot", unix.MFD_CLOEXEC)
	if err != nil {
		return o, fmt.Errorf("memfd_create: %w", err)
	}
	defer unix.Close(file)
	n, err := unix.Write(file, bytesOf(saved))
	if err != nil || n != snapshotPages*memory.PageSize {
		o.Text = fmt.Sprintf("write(2) of %d bytes of secret memory wrote %d (%v)", snapshotPages*memory.PageSize, n, err)
		return o, nil
	}
	hits, err := search(ctx, canaries)
	if err != nil {
		return o, err
	}
	o.Holds = hits[0].Pages >= snapshotPages && hits[1].Pages == 0
	o.Text = fmt.Sprintf("of %d pages each, found in the direct map: %d of those written to a file, %d of those that weren't", snapshotPages, hits[0].Pages, hits[1].Pages)
	return o, nil
}
