package attach

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Threads that fault the same pages at the same time, in the view and in the
// owner's mapping, all see the same pages.
func TestBridgeConcurrentFaults(t *testing.T) {
	needBridge(t)
	const pages, threads = 512, 4
	for round := range 4 {
		s := newSecret(t, pages*page)
		mappings := [2][]byte{s.mem, viewOf(t, s).bytes()}
		var ready, done sync.WaitGroup
		ready.Add(threads)
		for n := range threads {
			done.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				order := rand.Perm(pages)
				if round%2 == 0 { // neck and neck through the same pages
					for i := range order {
						order[i] = i
					}
				}
				ready.Done()
				ready.Wait()
				for _, i := range order {
					// Each thread has a byte of its own in every page.
					mappings[(n+i+round)%2][i*page+n] = byte(i + n + 1)
				}
			})
		}
		done.Wait()
		for i := range pages {
			for n := range threads {
				for m := range mappings {
					if got := mappings[m][i*page+n]; got != byte(i+n+1) {
						t.Fatalf("round %d, page %d, thread %d: mapping %d reads %d", round, i, n, m, got)
					}
				}
			}
		}
	}
}

// Faults while everything around them changes: each is served or a SIGBUS.
// What this looks for is in the kernel's log.
func TestBridgeChaos(t *testing.T) {
	needBridge(t)
	const pages = 512
	s := newSecret(t, pages*page)
	dev := openDevice(t)
	req := s.request()
	if err := bind(dev, &req); err != nil {
		t.Fatal(err)
	}
	view := mapShared(t, dev, 0, pages*page)
	away := mapShared(t, secretFile(t, pages*page), 0, pages*page)

	var stop atomic.Bool
	var served, refused atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				if err := store(view, rand.IntN(pages)*page, 1); err != nil {
					refused.Add(1)
				} else {
					served.Add(1)
				}
			}
		})
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		// A new view empties the old one's page tables.
		mapOver(t, view, dev, 0, unix.MAP_SHARED)
		if _, err := remap(s.mem, len(s.mem), len(s.mem), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, away); err != nil {
			t.Fatal(err)
		}
		if errno := forkedMsync(t, view); errno != unix.ENOMEM {
			t.Fatalf("the view in a fork: %v", errno)
		}
		mapOver(t, s.mem, s.fd, 0, unix.MAP_SHARED)
		if err := mprotect(view[:pages/2*page], unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d stores, %d faults", served.Load(), refused.Load())
	if served.Load() == 0 || refused.Load() == 0 {
		t.Error("one of the two was never seen")
	}
}

// Past RLIMIT_MEMLOCK a touch of the view is what a touch of the owner's
// mapping is, and no more pages are created.
func TestBridgeMemlock(t *testing.T) {
	needBridge(t)
	const limit, pages = 16, 64
	s := newSecret(t, pages*page)
	view := viewOf(t, s).bytes()
	setMemlock(t, limit*page)
	defer setMemlock(t, unix.RLIM_INFINITY)

	var err error
	n := 0
	for ; n < pages && err == nil; n++ {
		err = store(view, n*page, 1)
	}
	control := store(s.mem, (pages-1)*page, 1)
	if control == nil && err == nil {
		t.Skip("NOT TESTED: this kernel checks the limit when secret memory is mapped, not when it's touched")
	}
	if err == nil || control == nil {
		t.Fatalf("view: %v; owner: %v", err, control)
	}
	if n-1 > limit { // fewer, where something else of this uid is charged
		t.Errorf("%d pages populated, the limit is %d", n-1, limit)
	}
	// The same as an errno, and nothing is charged for a failure.
	zero, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(zero)
	if n, err := unix.Read(zero, view[40*page:41*page]); err != unix.EFAULT {
		t.Errorf("read into a page past the limit: %d, %v", n, err)
	}
	setMemlock(t, (limit+1)*page)
	if err := store(view, 30*page, 1); err != nil {
		t.Errorf("with the limit one page higher: %v", err)
	}
	if err := store(view, 31*page, 1); err == nil {
		t.Error("two pages past the limit")
	}
}

// Nothing stays behind, on any way out: no descriptor, mapping, reference to
// the module, nor page.
func TestBridgeLeavesNothing(t *testing.T) {
	needBridge(t)
	before := traces(t)
	const rounds, size = 8, 16 << 20
	available := memAvailable(t)
	for range rounds {
		t.Run("", func(t *testing.T) {
			s := newSecret(t, size)
			b := viewOf(t, s)
			for i := 0; i < size; i += page {
				b.bytes()[i] = 1
			}
			if _, err := openBridgeView("", s.fd, start(s.mem), uint64(size+page)); err == nil {
				t.Error("a view beyond the file")
			}
			if _, err := openBridgeView("", -1, start(s.mem), uint64(size)); err == nil {
				t.Error("a view of nothing")
			}
			for range 2 {
				if err := b.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}
		})
	}
	if after := traces(t); after != before {
		t.Errorf("before: %+v, after: %+v", before, after)
	}
	if lost := available - memAvailable(t); lost > rounds*size/2 {
		t.Errorf("%d MiB went through, %d MiB are lost", rounds*size>>20, lost>>20)
	}
}

func memAvailable(t *testing.T) (bytes int) {
	t.Helper()
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(info), "MemAvailable:")
	if _, err := fmt.Sscan(after, &bytes); err != nil {
		t.Fatalf("MemAvailable: %v", err)
	}
	return bytes << 10
}

type trace struct {
	fds, views int
	refs       string
}

func traces(t *testing.T) trace {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	refs, err := os.ReadFile("/sys/module/offmap/refcnt")
	if err != nil {
		t.Fatal(err)
	}
	return trace{len(fds), strings.Count(string(maps), BridgeDevice) + strings.Count(string(maps), "secretmem"), string(refs)}
}

// The pages outlive the owner's mapping, both descriptors and the device for
// as long as there is a view.
func TestBridgeHoldsItsPages(t *testing.T) {
	needBridge(t)
	setMemlock(t, unix.RLIM_INFINITY)
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, 1<<20); err != nil {
		t.Fatal(err)
	}
	owner, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBridgeView("", fd, start(owner), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	view := b.bytes()
	for i := 0; i < len(view); i += page {
		view[i] = byte(i / page)
	}
	unix.Munmap(owner)
	unix.Close(fd)
	// Take whatever was freed.
	taken := make([]byte, 64<<20)
	for i := 0; i < len(taken); i += page {
		taken[i] = 0xff
	}
	for i := 0; i < len(view); i += page {
		if v, err := load(view, i); v != byte(i/page) || err != nil {
			t.Fatalf("page %d: %d, %v", i/page, v, err)
		}
	}
}
