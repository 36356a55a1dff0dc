package limits

import (
	"context"
	"errors"
	"fmt"

	"offmap/memory"
)

// diskLimits are about the files behind a guest's disks and shared directories.
func diskLimits() []Limit {
	return []Limit{{
		ID:       "disk-in-page-cache",
		Title:    "What a guest writes to a disk or to a shared directory is in the host's page cache, and then in freed pages",
		Source:   "the page cache, kernel documentation: ordinary reads, writes and mappings of files go through it",
		Link:     "https://docs.kernel.org/mm/page_cache.html",
		How:      "64 pages of secret guest RAM with a canary in each are written to a file, as offmap's disks and shared directories do it (pwritev2(2) of guest RAM), and read back to other pages. A second canary stays in RAM. The direct map is searched for both through /proc/kcore then, after fsync and POSIX_FADV_DONTNEED, and when the file is gone.",
		Expected: "One copy of each page, which is the page cache's; the canary that stays in RAM is never found",
		Means:    "Disks and shared directories need no buffers in ordinary memory, since the kernel copies between the page cache and hidden RAM. But the page cache is in the direct map, and the disk keeps what the guest writes. If that is secret, the guest has to encrypt it (dm-crypt): only ciphertext then leaves its RAM.",
		check: func(ctx context.Context) (Observation, error) {
			return checkDisk(ctx, memory.Secret, scanKcore)
		},
	}}
}

const (
	diskPages = 64
	// diskResting is in a page that is neither written to the file nor read from it.
	diskResting = 2*diskPages*memory.PageSize + plantAt
)

func checkDisk(ctx context.Context, b memory.Backend, search scan) (o Observation, err error) {
	canaries, err := newCanaries(2)
	if err != nil {
		return o, err
	}
	ram, err := newRAM(b, (2*diskPages+1)*memory.PageSize)
	if err != nil {
		return o, lacking(err)
	}
	defer func() { err = errors.Join(err, ram.Close()) }()
	if _, err := touchAll(ram); err != nil {
		return o, err
	}
	mem := bytesOf(ram)
	for p := range diskPages {
		canaries[0].Plant(mem[p*memory.PageSize+plantAt:])
	}
	canaries[1].Plant(mem[diskResting:])

	f, kind, err := scratchFile()
	if err != nil {
		return o, err
	}
	defer f.Close()
	const size = diskPages * memory.PageSize
	if n, err := ram.Pwritev(int(f.Fd()), memory.Ranges{{Size: size}}, 0, 0); n != size || err != nil {
		return o, fmt.Errorf("%d of %d bytes written: %w", n, size, err)
	}
	if n, err := ram.Preadv(int(f.Fd()), memory.Ranges{{GPA: size, Size: size}}, 0, 0); n != size || err != nil {
		return o, fmt.Errorf("%d of %d bytes read: %w", n, size, err)
	}
	if !canaries[0].In(mem[2*size-memory.PageSize+plantAt:]) {
		return o, errors.New("what was written isn't what is read")
	}

	file, resting, err := searchDropped(ctx, f, canaries, search)
	if err != nil {
		return o, err
	}
	o.Holds = file[0] == diskPages && resting == [3]int{}
	o.Text = fmt.Sprintf("copies in the direct map of the canary in each of %d pages that are in a file on %s: %d when they are written and read back, %d after POSIX_FADV_DONTNEED, %d when the file is gone; of the one that stays in RAM %d, %d and %d; init_on_free is %s",
		diskPages, kind, file[0], file[1], file[2], resting[0], resting[1], resting[2], initOnFree())
	return o, nil
}
