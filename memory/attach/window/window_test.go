package window

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/uffd"
)

// newWindow makes a window of size bytes on secret RAM of the layout, or skips,
// loudly, where this host can't.
func newWindow(t testing.TB, l memory.Layout, cfg Config) *Window {
	t.Helper()
	ram, err := memory.New(memory.Secret, l)
	if errors.Is(err, memory.ErrSecretAbsent) || errors.Is(err, memory.ErrSecretDisabled) || errors.Is(err, memory.ErrMemlock) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	w, err := Open(ram, cfg)
	if errors.Is(err, uffd.ErrDenied) || errors.Is(err, uffd.ErrUnsupported) {
		ram.Close()
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Err(), w.Close(), ram.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func newPipe(t testing.TB) (p [2]int) {
	t.Helper()
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p
}

func flat(t testing.TB, size uint64) memory.Layout {
	t.Helper()
	l, err := memory.LayoutOf(memory.Region{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// watch samples how many frames the kernel counts until stop is called, which
// returns the most.
func (w *Window) watch(t *testing.T) (stop func() uint64) {
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		var m uint64
		for {
			select {
			case <-done:
				most <- m
				return
			default:
			}
			held, err := w.view.held()
			if err != nil {
				t.Error(err)
			}
			m = max(m, held)
		}
	}()
	return func() uint64 { close(done); return <-most }
}

// TestStress has guests, devices and the evictor at the same pages at once:
// every page has one word for each of them, which counts its writes.
func TestStress(t *testing.T) {
	const size, pages = 8 << 20, 8 << 20 / memory.PageSize
	w := newWindow(t, flat(t, size), Config{Size: MinSize, Threads: 2})
	stop := w.watch(t)
	var wg sync.WaitGroup
	deadline := time.Now().Add(2 * time.Second)
	var passes [4]int
	for who := range 4 {
		pipe := newPipe(t)
		guest := who < 2
		wg.Go(func() {
			counts := make([]uint64, pages)
			var b [8]byte
			r := rand.New(rand.NewPCG(uint64(who), 1))
			walk := uint64(0)
			for time.Now().Before(deadline) {
				page := r.Uint64N(pages)
				if who&1 == 1 && r.Uint32N(4) > 0 { // walks, too
					walk = (walk + 1) % pages
					page = walk
				}
				off := page*memory.PageSize + uint64(who)*64
				var err error
				if guest {
					err = w.guestRead(pipe, off, b[:])
				} else {
					_, err = w.ReadAt(b[:], int64(off))
				}
				if err != nil {
					t.Errorf("%d: read at 0x%x: %v", who, off, err)
					return
				}
				if got := binary.LittleEndian.Uint64(b[:]); got != counts[page] {
					t.Errorf("%d: page %d has count %d, want %d: an update was lost", who, page, got, counts[page])
					return
				}
				counts[page]++
				binary.LittleEndian.PutUint64(b[:], counts[page])
				if guest {
					err = w.guestWrite(pipe, off, b[:])
				} else {
					_, err = w.WriteAt(b[:], int64(off))
				}
				if err != nil {
					t.Errorf("%d: write at 0x%x: %v", who, off, err)
					return
				}
				passes[who]++
			}
		})
	}
	wg.Wait()
	most := stop()
	now, peak := w.Held()
	t.Logf("%v accesses, %+v, %d KiB held, %d at the peak, %d by the kernel's count", passes, w.Counts(), now>>10, peak>>10, most>>10)
	if most > MinSize || peak > MinSize {
		t.Errorf("%d KiB of frames, %d by our own count: the bound is %d", most>>10, peak>>10, MinSize>>10)
	}
}
