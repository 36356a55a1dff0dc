package audit

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSample: an attack that tries a few pages tries some of each mapping, of
// files what this process has never touched as well.
func TestSample(t *testing.T) {
	const pages, n = 512, 32
	fd, err := unix.MemfdCreate("sampled", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, pages*pageSize); err != nil {
		t.Fatal(err)
	}
	place := func(fd, flags int) area {
		mem, err := unix.Mmap(fd, 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, flags)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Munmap(mem) })
		if flags&unix.MAP_ANONYMOUS != 0 {
			if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
				t.Fatal(err)
			}
			for p := range 3 {
				mem[p*7*pageSize] = 1
			}
		}
		return area{Start: placeOf(mem), End: placeOf(mem) + pages*pageSize}
	}
	untouched := place(fd, unix.MAP_SHARED)
	anonymous := place(-1, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	got, mappings, err := Target{PID: unix.Getpid()}.sample(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(slices.Compact(slices.Sorted(slices.Values(got))), slices.Sorted(slices.Values(got))) {
		t.Error("pages twice")
	}
	count := func(pages []uint64, a area) (n int) {
		for _, p := range pages {
			if p >= a.Start && p < a.End {
				n++
			}
		}
		return n
	}
	// A page may be drawn twice, and is then tried once.
	if c := count(got, untouched); c < n*3/4 || c > n {
		t.Errorf("%d pages of the file, want about %d", c, n)
	}
	if c := count(got[:mappings], untouched); c != 1 {
		t.Errorf("%d pages of the file in the first turn, want 1", c)
	}
	if c := count(got, anonymous); c < 3 || c > n {
		t.Errorf("%d pages of anonymous memory, want those 3 that were touched", c)
	}
}
