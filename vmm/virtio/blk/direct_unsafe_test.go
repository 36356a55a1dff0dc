package blk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/memory/memtest"
)

// cached returns how many pages of a file are in the page cache.
func cached(t *testing.T, fd int, size int) (n int) {
	t.Helper()
	m, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	pages := make([]byte, size/4096)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}

// TestDirectLeavesNothing looks for a disk's pages in the page cache, whatever the guest
// has done with it. With the page cache it finds them.
func TestDirectLeavesNothing(t *testing.T) {
	const size = 1 << 20
	for _, kind := range kinds {
		path, _ := newImage(t, size)
		disk, drv := openDisk(t, path, kind.Options)
		var fds []int
		switch s := disk.store.(type) {
		case *file:
			fds = []int{s.fd}
		case *direct:
			fds = []int{s.fd}
		case *overlay:
			for _, s := range []store{s.image, s.own} {
				if d, ok := s.(*direct); ok {
					fds = append(fds, d.fd)
				} else {
					fds = append(fds, s.(*file).fd)
				}
			}
		}
		read(t, drv, 1, 300<<10)
		write(t, drv, 3, noise(1, 200<<10))
		write(t, drv, 777, noise(1, 512))
		for _, kind := range []uint32{typeWriteZeroes, typeDiscard} {
			if st, _, _ := ask(drv, kind, 0, [][]byte{segmentBytes(501, 33, 0)}); st != statusOK {
				t.Errorf("type %d: status %d", kind, st)
			}
		}
		ask(drv, typeFlush, 0, nil)
		read(t, drv, 0, size)
		var n int
		for _, fd := range fds {
			n += cached(t, fd, size)
		}
		if (kind.Cache == CacheNone) != (n == 0) {
			t.Errorf("%s: %d pages in the page cache", kind.name, n)
		}
		s := disk.Stats()
		if (kind.Cache == CacheNone) != (s.ExposedPeak > 0) || s.ExposedPeak > maxWorkers*bounceSize || s.Exposed != 0 {
			t.Errorf("%s: %+v", kind.name, s)
		}
	}
}

// TestDirectEdges writes the sectors of a block at the same time: none undoes another.
func TestDirectEdges(t *testing.T) {
	path, want := newImage(t, 64<<10)
	_, drv := openDisk(t, path, Options{Cache: CacheNone}, in4096)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for round := range 30 {
				data := noise(uint64(i*1000+round), sector)
				copy(want[i*sector:], data)
				wait(t, drv, typeOut, uint64(i), [][]byte{data})
			}
		})
	}
	all.Wait()
	if got := read(t, drv, 0, len(want)); !bytes.Equal(got, want) {
		t.Error("a sector isn't what was written last")
	}
}

// TestDirectRefused has files for which there is no way around the page cache.
func TestDirectRefused(t *testing.T) {
	defer memtest.Leaks(t)()
	tmpfs := func(name string) string {
		path := filepath.Join("/dev/shm", "offmap-"+filepath.Base(t.TempDir())+name)
		if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
			t.Skipf("SKIPPED: no tmpfs: %v", err)
		}
		t.Cleanup(func() { os.Remove(path) })
		return path
	}
	if _, err := Open(tmpfs("image"), Options{Cache: CacheNone}); err == nil || !strings.Contains(err.Error(), "keeps files in memory") {
		t.Errorf("tmpfs: %v", err)
	}
	path, _ := newImage(t, 4096)
	t.Setenv("TMPDIR", "/dev/shm")
	if _, err := Open(path, Options{Cache: CacheNone, Overlay: true}); err == nil || !strings.Contains(err.Error(), "set TMPDIR") {
		t.Errorf("overlay on tmpfs: %v", err)
	}
}
