package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/guest/protocol"
	"offmap/internal/measure/guestrun"
	"offmap/memory"
)

// diskCanaryPages is how many pages with the canary a guest sends to each file: few, so
// that the search names the place of every copy.
const diskCanaryPages = 4

// swapDisk is the machine's only disk: see --swap.
const swapDisk = "/dev/vda"

// TestAuditDisk has guests write a canary to a disk and to a shared directory, and
// searches the direct map for it. It is in the page cache of these files and nowhere
// else, and with cache=none nowhere at all. Programs that put a buffer of their own in
// the way, or don't wipe one, are found out.
func TestAuditDisk(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	image, shared := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	buffered := []string{"--disk", image, "--share", shared + "=shared,rw"}
	const bufferedFiles = "-file /dev/vda -file /mnt/shared/file"
	where, d := diskCanary(t, "./offmap", bufferedFiles, buffered...)
	want := append(frames(t, image), frames(t, filepath.Join(shared, "file"))...)
	slices.Sort(want)
	if !slices.Equal(where, want) || d.ExposedPeak != 0 {
		t.Errorf("the canary is in the page frames %x, want %x, those of the files; %d bytes were exposed", where, want, d.ExposedPeak)
	}
	if where, _ := diskCanary(t, "./offmap-bouncing", bufferedFiles, buffered...); len(where) <= 2*diskCanaryPages {
		t.Errorf("a VMM with a buffer in the way isn't found out: the canary is in the page frames %x", where)
	}

	noSwap(t)
	none := []string{"--disk", swapDisk + ",cache=none"}
	where, d = diskCanary(t, "./offmap", "-file /dev/vda", none...)
	if len(where) != 0 {
		t.Errorf("with cache=none the canary is in the page frames %x", where)
	}
	if d.ExposedPeak == 0 || d.Exposed != 0 {
		t.Errorf("with cache=none %d bytes were exposed at the peak, and are %d at the end", d.ExposedPeak, d.Exposed)
	}
	if where, _ := diskCanary(t, "./offmap-unwiped", "-file /dev/vda", none...); len(where) == 0 {
		t.Error("a VMM that doesn't wipe its bounce buffers isn't found out")
	}
}

// diskCanary runs a guest that sends its canary's pages to files and back. It returns
// the page frames of the direct map that have the canary then, in order, and the
// guest's report.
func diskCanary(t *testing.T, program, files string, args ...string) ([]uint64, *guestrun.Document) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report")
	g := start(t, command(t, 2*patience, program, append(append([]string{"run", "--report", file},
		linux("secret", fmt.Sprintf("canary -pages %d %s -hold", diskCanaryPages, files))...), args...)...))
	g.await(t, protocol.CanaryPlanted)
	hits, err := canary.ScanKcore(t.Context(), []canary.Canary{plantedCanary(t, g.out.String())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.input.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if code := g.ended(); code != 0 || !strings.Contains(g.out.String(), protocol.CanaryHeldLine(diskCanaryPages, diskCanaryPages)) {
		t.Errorf("%s: exit code %d:\n%s", program, code, g.out.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var where []uint64
	for _, at := range hits[0].First {
		where = append(where, at/memory.PageSize)
	}
	if hits[0].Total > len(where) { // there are more than the search names
		where = append(where, make([]uint64, hits[0].Total-len(where))...)
	}
	slices.Sort(where)
	return where, readRun(t, string(text))
}

// frames returns the page frames of the canary's pages in a file's page cache.
func frames(t *testing.T, path string) (all []uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err := unix.Mmap(int(f.Fd()), 0, diskCanaryPages*memory.PageSize, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	for p := range diskCanaryPages {
		var entry [8]byte
		if _, err := pagemap.ReadAt(entry[:], int64(addressOf(mem)/memory.PageSize+uintptr(p))*8); err != nil {
			t.Fatal(err)
		}
		e := binary.LittleEndian.Uint64(entry[:])
		if e>>63 == 0 {
			t.Fatalf("page %d of %s isn't in memory", p, path)
		}
		all = append(all, e&(1<<55-1))
	}
	return all
}

// noSwap takes the swap disk from the kernel until the test's end.
func noSwap(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(swapDisk); err != nil {
		t.Fatalf("no disk for cache=none: %v", err)
	}
	if err := swap(unix.SYS_SWAPOFF, swapDisk); err != nil {
		t.Fatalf("swapoff: %v", err)
	}
	disk, err := os.OpenFile(swapDisk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	header := make([]byte, memory.PageSize)
	if _, err := disk.ReadAt(header, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		disk, err := os.OpenFile(swapDisk, os.O_RDWR|unix.O_SYNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		if _, err := disk.WriteAt(header, 0); err != nil {
			t.Error(err)
		}
		if err := swap(unix.SYS_SWAPON, swapDisk); err != nil {
			t.Errorf("swapon: %v", err)
		}
	})
}
