package window

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
	"offmap/memory/memtest"
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
		// A window that has failed may say so again.
		if err := w.Close(); err != nil && w.Err() == nil {
			t.Error(err)
		}
		if err := ram.Close(); err != nil {
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

// watch samples the memory of the window's file until stop is called, which returns
// the peak in bytes.
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
			size, err := w.file.allocated()
			if err != nil {
				t.Error(err)
			}
			m = max(m, size)
		}
	}()
	return func() uint64 { close(done); return <-most }
}

// TestStress has guests and devices use the same pages at once while they are
// evicted. Each has a word of its own in every page, which counts its writes.
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
			next := uint64(0)
			for time.Now().Before(deadline) {
				page := r.Uint64N(pages)
				if who&1 == 1 && r.Uint32N(4) > 0 { // a sequential stream
					next = (next + 1) % pages
					page = next
				}
				off := page*memory.PageSize + uint64(who)*64
				var err error
				if guest {
					err = w.guestRead(pipe, off, b[:])
				} else {
					_, err = w.ReadAt(b[:], memory.GPA(off))
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
					_, err = w.WriteAt(b[:], memory.GPA(off))
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
	if err := w.Err(); err != nil {
		t.Error(err)
	}
	if most > MinSize || peak > MinSize {
		t.Errorf("%d KiB of frames, %d by our own count: the bound is %d", most>>10, peak>>10, MinSize>>10)
	}
}

// TestGuest runs the conformance suite on a window, and checks that a guest and a
// device see each other's writes.
func TestGuest(t *testing.T) {
	l := memtest.Layout(t)
	at := newWindow(t, l, Config{Size: MinSize})
	memtest.Guest(t, at, func() (uint64, error) { return at.Populated(), nil }, memory.PageSize)
	if now, peak := at.Held(); now != 0 || peak != 0 {
		t.Errorf("devices made %d pages resident, %d at the peak", now/memory.PageSize, peak/memory.PageSize)
	}

	used := newWindow(t, l, Config{Size: MinSize})
	pipe := newPipe(t)
	for page := range l.Size() / memory.PageSize {
		if err := used.guestWrite(pipe, page*memory.PageSize+8, []byte{byte(page)}); err != nil {
			t.Fatal(err)
		}
	}
	var b [1]byte
	if _, err := used.ReadAt(b[:], 0x104008); err != nil || b[0] != 12 {
		t.Errorf("a device reads %d, %v of what the guest wrote; want 12", b[0], err)
	}
	if _, err := used.WriteAt([]byte{99}, 0x104008); err != nil {
		t.Fatal(err)
	}
	if err := used.guestRead(pipe, 12*memory.PageSize+8, b[:]); err != nil || b[0] != 99 {
		t.Errorf("the guest reads %d, %v of what a device wrote; want 99", b[0], err)
	}
}

// TestNothingLeft checks that nothing is left of windows that were closed, and of
// some that couldn't be opened.
func TestNothingLeft(t *testing.T) {
	l := flat(t, 1<<20)
	newWindow(t, l, Config{Size: MinSize}).Close() // it starts what stays
	ram, err := memory.New(memory.Secret, l)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	pipe := newPipe(t)
	time.Sleep(50 * time.Millisecond)
	leaks := memtest.Leaks(t)
	for i := range 10 {
		w, err := Open(ram, Config{Size: MinSize, Threads: 2})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := w.guestWrite(pipe, 0, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		file, err := unix.FcntlInt(uintptr(w.file.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Error(err)
		}
		if at, err := unix.Seek(file, 0, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
			t.Errorf("after Close the window has a frame at 0x%x (%v)", at, err)
		}
		unix.Close(file)
		if _, err := Open(ram, Config{Size: MinSize - 1}); err == nil {
			t.Error("a window that is too small was opened")
		}
	}
	leaks()
}

// TestEvictedIsWiped checks that an evicted frame is wiped before it is freed. A
// pipe holds a reference to the frame, through which the test reads it afterwards.
func TestEvictedIsWiped(t *testing.T) {
	w := newWindow(t, flat(t, 1<<20), Config{Size: MinSize})
	pipe, held := newPipe(t), newPipe(t)
	secret := bytes.Repeat([]byte("secret"), memory.PageSize/6)
	if err := w.guestWrite(pipe, 0, secret); err != nil {
		t.Fatal(err)
	}
	off := int64(0)
	if n, err := unix.Splice(w.file.fd, &off, held[1], nil, memory.PageSize, 0); err != nil || n != memory.PageSize {
		t.Fatalf("splice: %d, %v", n, err)
	}
	for page := uint64(1); w.Counts().Evicted == 0 || w.stateOf(0) != policy.Absent; page++ {
		if page == 256 {
			t.Fatal("page 0 was never evicted")
		}
		if err := w.guestWrite(pipe, page*memory.PageSize, []byte{1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Microsecond)
	}
	frame := make([]byte, memory.PageSize)
	if n, err := unix.Read(held[0], frame); err != nil || n != len(frame) {
		t.Fatalf("read of the frame: %d, %v", n, err)
	}
	if !bytes.Equal(frame, zeros[:memory.PageSize]) {
		t.Error("an evicted frame was freed with what was in it")
	}
	got := make([]byte, len(secret))
	if err := w.guestRead(pipe, 0, got); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the guest doesn't get back what it wrote (%v)", err)
	}
}

func (w *Window) stateOf(page uint32) policy.State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frames.State(page)
}

// TestZerosStayOut checks that the store allocates no memory for pages that the
// guest only read, or wrote zeros to.
func TestZerosStayOut(t *testing.T) {
	w := newWindow(t, flat(t, 1<<20), Config{Size: MinSize})
	pipe := newPipe(t)
	for page := range uint64(256) {
		if err := w.guestWrite(pipe, page*memory.PageSize, []byte{0}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := w.ram.Populated(); err != nil || n != 0 {
		t.Errorf("the store has %d bytes, %v", n, err)
	}
	if held, _ := w.Held(); w.Populated() != held {
		t.Errorf("%d bytes populated, %d held", w.Populated(), held)
	}
}

// TestAge checks that pages which aren't used are evicted though there is room, and
// that one which is used isn't.
func TestAge(t *testing.T) {
	const age = 200 * time.Millisecond
	w := newWindow(t, flat(t, 1<<20), Config{Size: 1 << 20, Age: age})
	pipe := newPipe(t)
	start, gap := time.Now(), time.Duration(0)
	for i := range uint64(100) { // not in sequence, which would be read ahead
		if err := w.guestWrite(pipe, i*37%256*memory.PageSize, []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	if now, _ := w.Held(); now != 100*memory.PageSize && time.Since(start) < age/2 {
		t.Fatalf("%d pages held, want 100", now/memory.PageSize)
	}
	last := start // page 0 was the first
	for end := time.Now().Add(2 * age); time.Now().Before(end); time.Sleep(age / 50) {
		if err := w.guestWrite(pipe, 0, []byte{1}); err != nil {
			t.Fatal(err)
		}
		gap, last = max(gap, time.Since(last)), time.Now()
	}
	// On a busy machine the others may take longer, and the test may leave its
	// page unused for so long that it is evicted as well.
	held, _ := w.Held()
	for hang := time.Now().Add(time.Minute); held > memory.PageSize && time.Now().Before(hang); held, _ = w.Held() {
		time.Sleep(age / 50)
		if err := w.guestWrite(pipe, 0, []byte{1}); err != nil {
			t.Fatal(err)
		}
		gap, last = max(gap, time.Since(last)), time.Now()
	}
	if held > memory.PageSize || held == 0 && gap < age/2 {
		t.Errorf("%d pages held, want the one that is used", held/memory.PageSize)
	}
	if c := w.Counts(); gap < age/2 && (c.MinorFaults == 0 || c.Filled != 100) {
		t.Errorf("%+v: want minor faults on the page in use, and that it is never evicted", c)
	}
}

// TestFails checks that after a failure the guest gets EFAULT and doesn't hang,
// devices get the reason, and no frame is left.
func TestFails(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(t *testing.T, w *Window)
		want error
	}{
		{"scrubber killed", func(t *testing.T, w *Window) {
			if err := unix.Kill(w.wiper.PID(), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}, errScrubber},
		{"store refuses a page", func(t *testing.T, w *Window) {
			none, err := unix.Mmap(-1, 0, int(w.file.size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Munmap(none) })
			w.evicting.Lock() // nobody evicts, or reads from the store
			w.file.store = none
			w.evicting.Unlock()
		}, unix.EFAULT},
		{"no memory for frames", func(t *testing.T, w *Window) {
			full, err := unix.Open("/dev/full", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			// The same descriptor, so that Go's race detector sees no write.
			if err := unix.Dup3(full, w.file.fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			unix.Close(full)
		}, unix.ENOSPC},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWindow(t, flat(t, 4<<20), Config{Size: MinSize, Threads: 2})
			file, err := unix.FcntlInt(uintptr(w.file.fd), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(file)
			pipe := newPipe(t)
			for page := range uint64(40) {
				if err := w.guestWrite(pipe, page*memory.PageSize, []byte{1}); err != nil {
					t.Fatal(err)
				}
			}
			c.harm(t, w)
			for page := uint64(0); err == nil; page = (page + 1) % 1024 {
				err = w.guestWrite(pipe, page*memory.PageSize, []byte{2})
			}
			if !errors.Is(err, unix.EFAULT) {
				t.Errorf("the guest got %v, want EFAULT", err)
			}
			<-w.Failed()
			if _, err := w.ReadAt(make([]byte, 1), 0); err == nil || err.Error() == "" || w.Err() == nil {
				t.Errorf("a device got %v from a window that failed with %v", err, w.Err())
			}
			if !errors.Is(w.Err(), c.want) {
				t.Errorf("failed with %q, want %q", w.Err(), c.want)
			}
			if err := unix.Dup3(file, w.file.fd, unix.O_CLOEXEC); err != nil {
				t.Fatal(err)
			}
			w.Close()
			if at, err := unix.Seek(file, 0, unix.SEEK_DATA); !errors.Is(err, unix.ENXIO) {
				t.Errorf("after Close the window has a frame at 0x%x (%v)", at, err)
			}
		})
	}
}

// TestNoAllocation checks that faults and evictions allocate no memory.
func TestNoAllocation(t *testing.T) {
	w := newWindow(t, flat(t, 4<<20), Config{Size: MinSize})
	pipe := newPipe(t)
	page, one := uint64(0), []byte{1}
	n := testing.AllocsPerRun(2000, func() {
		page = (page + 7) % 1024
		if err := w.guestWrite(pipe, page*memory.PageSize, one); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 || w.Counts().Evicted < 1000 {
		t.Errorf("%v allocations a fault, %+v", n, w.Counts())
	}
}
