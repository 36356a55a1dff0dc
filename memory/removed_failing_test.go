package memory

import (
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/failnth"
)

// TestRemovedFailing has each allocation fail that the kernel makes for a request. The
// request fails, or works without, and afterwards the kernel has all its memory.
func TestRemovedFailing(t *testing.T) {
	onlineBlocks(t)
	probe := removedFile(t)
	if err := restoreRemoved(probe); err != nil {
		t.Fatal(err)
	}
	before := directMap(t)
	first := removableBlock(t, probe)
	const size = 4 * hugePage

	// What the kernel says of a resource without memory for its descriptor is EEXIST.
	allowed := []unix.Errno{unix.ENOMEM, unix.EBUSY, unix.EAGAIN, unix.EEXIST}
	errno := func(err error) (e unix.Errno) {
		errors.As(err, &e)
		return e
	}

	// each fails the allocations of do, and gives everything back after each run.
	each := func(name string, kind failnth.Kind, prepare func() error, do func() error, cleanup func()) {
		t.Run(name, func(t *testing.T) {
			must := func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			}
			must(prepare())
			t.Cleanup(func() { // when the test is skipped, too
				cleanup()
				if err := restoreRemoved(probe); err != nil {
					t.Error(err)
				}
			})
			refused := 0
			n := failnth.Each(t, kind, do, func(nth int, err error) {
				if err != nil {
					refused++
				}
				if err != nil && !slices.Contains(allowed, errno(err)) {
					t.Errorf("allocation %d: %v", nth, err)
				}
				cleanup()
				must(restoreRemoved(probe))
				if after := directMap(t); !maps.Equal(after, before) {
					t.Errorf("allocation %d: the direct map was %v, and is %v", nth, before, after)
				}
				if pool, err := removedPool(probe); err != nil || pool.Removed != 0 {
					t.Errorf("allocation %d: %+v, %v", nth, pool, err)
				}
				must(prepare())
			})
			t.Logf("%d allocations failed, %d requests with them", n, refused)
			if n == 0 {
				t.Error("no allocation has failed")
			}
		})
	}
	fd := -1
	open := func() (err error) {
		fd, err = openRemovedDevice()
		return err
	}
	closed := func() {
		if fd >= 0 {
			unix.Close(fd)
		}
		fd = -1
	}
	nothing := func() error { return nil }
	removed := func() error { return removeRange(probe, first) }
	opened := func() error {
		if err := removed(); err != nil {
			return err
		}
		return open()
	}
	given := func() error {
		if err := opened(); err != nil {
			return err
		}
		return allocRemoved(fd, size)
	}

	each("open", failnth.SlabAndPages, nothing, open, closed)
	each("remove", failnth.SlabAndPages, nothing, removed, func() {})
	each("restore", failnth.Slab, removed, func() error { return restoreRemoved(probe) }, func() {})
	each("alloc", failnth.SlabAndPages, opened, func() error { return allocRemoved(fd, size) }, closed)
	each("mmap", failnth.SlabAndPages, given, func() error {
		mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
		if err == nil {
			err = unix.Munmap(mem)
		}
		return err
	}, closed)
	// The file's memory is cleared. What can't be is as soon as it can.
	each("close", failnth.SlabAndPages, func() error {
		err := given()
		if err != nil {
			return err
		}
		mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		for i := 0; i < size; i += PageSize {
			if mem[i] != 0 {
				t.Fatalf("page %d of new memory isn't empty", i/PageSize)
			}
			mem[i] = 1
		}
		return unix.Munmap(mem)
	}, func() error {
		closed()
		return nil
	}, closed)
}

// removableBlock is a block that the kernel can do without.
func removableBlock(t *testing.T, fd int) PhysRange {
	t.Helper()
	blocks, err := memoryBlocks(os.DirFS("/sys"), &unix.CPUSet{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		if removeRange(fd, b.PhysRange) == nil {
			if err := restoreRemoved(fd); err != nil {
				t.Fatal(err)
			}
			return b.PhysRange
		}
	}
	t.Skip("SKIPPED: the kernel can do without no block")
	return PhysRange{}
}
