package window

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
)

// states counts pages by state.
func states(pages []memory.PageState) (n [memory.NumPageStates]uint64) {
	for _, s := range pages {
		n[s]++
	}
	return n
}

// TestResidency moves pages in every way, and compares Residency with what the
// kernel says of the store and of the window's file.
func TestResidency(t *testing.T) {
	const pages = 1 << 20 / memory.PageSize
	w := newWindow(t, flat(t, pages*memory.PageSize), Config{Size: MinSize})
	pipe := newPipe(t)
	got, store := make([]memory.PageState, pages), make([]memory.PageState, pages)
	check := func(when string) {
		t.Helper()
		if _, err := w.Residency(got); err != nil {
			t.Fatal(err)
		}
		if err := w.ram.Residency(store); err != nil {
			t.Fatal(err)
		}
		for p := range got {
			want := store[p] // hidden, or untouched
			at, err := unix.Seek(w.file.fd, offset(uint32(p)), unix.SEEK_DATA)
			if err == nil && at == offset(uint32(p)) {
				want = memory.InWindow
			}
			if got[p] != want {
				t.Errorf("%s: page %d is %v, by the kernel %v", when, p, got[p], want)
			}
		}
		held, _ := w.Held()
		if n := states(got); n[memory.InWindow]*memory.PageSize != held || (n[memory.InWindow]+n[memory.Hidden])*memory.PageSize != w.Populated() {
			t.Errorf("%s: %v pages by state, %d bytes held, %d populated", when, n, held, w.Populated())
		}
	}
	is := func(p int, want memory.PageState) {
		t.Helper()
		if got[p] != want {
			t.Errorf("page %d is %v, want %v", p, got[p], want)
		}
	}
	check("at first")
	is(0, memory.Untouched)

	if _, err := w.WriteAt([]byte{1}, 7*memory.PageSize); err != nil {
		t.Fatal(err)
	}
	check("a device has written")
	is(7, memory.Hidden)
	is(6, memory.Untouched)

	var b [1]byte
	for _, p := range []uint64{7, 100} {
		if err := w.guestRead(pipe, p*memory.PageSize, b[:]); err != nil {
			t.Fatal(err)
		}
	}
	check("the guest has read")
	is(7, memory.InWindow)
	is(100, memory.InWindow) // zeros, and exposed all the same
	is(101, memory.Untouched)

	for p := uint64(110); p < 250; p++ { // twice what the window holds
		if err := w.guestWrite(pipe, p*memory.PageSize, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	w.rest(t)
	check("others have taken the frames")
	is(7, memory.Hidden)
	is(100, memory.Untouched) // zeros don't go to the store
	is(110, memory.Hidden)
	is(249, memory.InWindow)
}

// rest waits until the pager is idle.
func (w *Window) rest(t *testing.T) {
	t.Helper()
	for last := (Counts{}); ; {
		now := w.Counts()
		w.mu.Lock()
		busy := w.frames.Count(policy.Busy)
		w.mu.Unlock()
		if now == last && busy == 0 {
			return
		}
		last = now
		time.Sleep(20 * time.Millisecond)
	}
}

// TestResidencyAtWork checks that Residency never reports more pages in the window
// than its bound while guests fault.
func TestResidencyAtWork(t *testing.T) {
	const pages = 8 << 20 / memory.PageSize
	w := newWindow(t, flat(t, pages*memory.PageSize), Config{Size: MinSize, Threads: 2})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var guests sync.WaitGroup
	for who := range uint64(2) {
		pipe := newPipe(t)
		guests.Go(func() {
			r := rand.New(rand.NewPCG(who, 3))
			for ctx.Err() == nil {
				if err := w.guestWrite(pipe, r.Uint64N(pages)*memory.PageSize, []byte{1}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	got := make([]memory.PageState, pages)
	looks, most := 0, uint64(0)
	for ; ctx.Err() == nil; looks++ {
		peak, err := w.Residency(got)
		if err != nil {
			t.Fatal(err)
		}
		n := states(got)[memory.InWindow] * memory.PageSize
		if n > peak || peak > MinSize {
			t.Fatalf("%d bytes in the window, a peak of %d, and a bound of %d", n, peak, MinSize)
		}
		most = max(most, n)
	}
	guests.Wait()
	if most < MinSize/2 {
		t.Errorf("at most %d bytes were seen in a window of %d that was full", most, MinSize)
	}
	t.Logf("%d looks, at most %d KiB in the window, %+v", looks, most>>10, w.Counts())
}

// TestResidencyBusy checks that busy pages are reported as exposed, even if the
// store has them: their frames can have what the guest wrote.
func TestResidencyBusy(t *testing.T) {
	w := &Window{file: &windowFile{size: 64 * memory.PageSize}, frames: policy.NewFrames(64, 8), stored: newBitmap(64)}
	w.frames.Allocate(5)
	w.stored.add(6)
	w.frames.Allocate(6)
	w.stored.add(7)
	w.frames.Allocate(8)
	w.frames.Free(8)
	got := make([]memory.PageState, 64)
	peak, err := w.Residency(got)
	if err != nil || peak != 3*memory.PageSize {
		t.Errorf("a peak of %d bytes, %v", peak, err)
	}
	for p, want := range map[int]memory.PageState{5: memory.InWindow, 6: memory.InWindow, 7: memory.Hidden, 8: memory.Untouched, 63: memory.Untouched} {
		if got[p] != want {
			t.Errorf("page %d is %v, want %v", p, got[p], want)
		}
	}
}

func TestResidencyOfOtherRAM(t *testing.T) {
	w := newWindow(t, flat(t, 1<<20), Config{Size: MinSize})
	for _, n := range []int{0, 255, 257} {
		if _, err := w.Residency(make([]memory.PageState, n)); err == nil {
			t.Errorf("the states of 256 pages went into %d", n)
		}
	}
}

// BenchmarkResidency measures Residency of 512 MiB of RAM with a full window of an
// eighth of it, or of all. The store has the other pages.
func BenchmarkResidency(b *testing.B) {
	const pages = 512 << 20 / memory.PageSize
	for name, limit := range map[string]int{"eighth": pages / 8, "all": pages} {
		b.Run(name, func(b *testing.B) {
			w := &Window{file: &windowFile{size: pages * memory.PageSize}, frames: policy.NewFrames(pages, limit), stored: newBitmap(pages)}
			for p := range uint32(pages) {
				if int(p) < limit {
					w.frames.Allocate(p)
				} else {
					w.stored.add(p)
				}
			}
			got := make([]memory.PageState, pages)
			for b.Loop() {
				if _, err := w.Residency(got); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/pages, "ns/page")
		})
	}
}
