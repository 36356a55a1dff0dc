package window

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// busyGuest uses other pages, so that those of the test are evicted now and then.
func busyGuest(t *testing.T, w *Window, wg *sync.WaitGroup, deadline time.Time) {
	pipe := newPipe(t)
	wg.Go(func() {
		for page := uint64(1); time.Now().Before(deadline); page = page%200 + 1 {
			if err := w.guestWrite(pipe, page*memory.PageSize, []byte{1}); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
}

// straddling returns two bytes on two pages, and drop, which takes the second page
// away: the kernel then copies the first byte, handles a page fault, and copies the
// second, which is 0.
func straddling(t *testing.T) (p []byte, drop func()) {
	t.Helper()
	mem, err := unix.Mmap(-1, 0, 2*memory.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return mem[memory.PageSize-1:][:2], func() {
		if err := unix.Madvise(mem[memory.PageSize:], unix.MADV_DONTNEED); err != nil {
			t.Error(err)
		}
	}
}

// TestPairWrittenAtOnce holds that a guest never sees half of an index that a device
// writes, whether its page is in the window or not.
func TestPairWrittenAtOnce(t *testing.T) {
	w := newWindow(t, flat(t, 1<<20), Config{Size: MinSize})
	deadline := time.Now().Add(time.Second)
	const off = 62
	if _, err := w.WriteAt([]byte{0xff, 0}, off); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	busyGuest(t, w, &wg, deadline)
	p, drop := straddling(t)
	looks, writes := 0, 0
	wg.Go(func() {
		// The word has the index in its upper half. The halves of 0x00ff and
		// 0x0100 are those of 0x01ff and 0x0000 too, those of 0x0100 and 0x0005
		// of 0x0105 and 0x0000, and those of 0x0005 and 0x00ff of none.
		for ; time.Now().Before(deadline); looks++ {
			for _, torn := range []uint32{0x01ff << 16, 0x0105 << 16, 0} {
				if is, err := w.guestIs(off-2, torn); is || err != nil {
					t.Errorf("the guest sees %#x (%v)", torn>>16, err)
					return
				}
			}
		}
	})
	for ; time.Now().Before(deadline); writes++ {
		for _, v := range [][2]byte{{0x00, 0x01}, {0x05, 0x00}, {0xff, 0x00}} {
			copy(p, v[:])
			if v[1] == 0 {
				drop()
			}
			if _, err := w.WriteAt(p, off); err != nil {
				t.Error(err)
			}
		}
	}
	wg.Wait()
	t.Logf("%d looks, %d writes, %+v", looks, writes, w.Counts())
	for _, v := range []uint16{7, 8, 0x0108, 0x0209, 0x0209} { // every way to write it
		want := binary.LittleEndian.AppendUint16(nil, v)
		got := make([]byte, 2)
		if _, err := w.WriteAt(want, off); err != nil {
			t.Fatal(err)
		}
		if _, err := w.ReadAt(got, off); err != nil || [2]byte(got) != [2]byte(want) {
			t.Errorf("wrote % x, read % x, %v", want, got, err)
		}
		if is, err := w.guestIs(off-2, uint32(v)<<16); !is || err != nil {
			t.Errorf("the guest doesn't see %#x (%v)", v, err)
		}
	}
}

// TestPairReadAtOnce holds that a device never reads half of an index that a guest
// counts up.
func TestPairReadAtOnce(t *testing.T) {
	w := newWindow(t, flat(t, 1<<20), Config{Size: MinSize})
	deadline := time.Now().Add(time.Second)
	const off, most = 64, 100 // most is how far the guest gets ahead, as the size of a queue
	var wg sync.WaitGroup
	busyGuest(t, w, &wg, deadline)
	var count, seen atomic.Uint32
	wg.Go(func() {
		for time.Now().Before(deadline) {
			if count.Load()-seen.Load() == most {
				continue
			}
			if err := w.guestIncrement(off); err != nil {
				t.Error(err)
				return
			}
			count.Add(1)
		}
	})
	var last uint16
	var reads, carries int
	for p, drop := straddling(t); time.Now().Before(deadline); reads++ {
		drop()
		if _, err := w.ReadAt(p, off); err != nil {
			t.Error(err)
			break
		}
		v := binary.LittleEndian.Uint16(p)
		if v-last > most+1 {
			t.Errorf("read %#x after %#x", v, last)
			break
		}
		if v>>8 != last>>8 {
			carries++
		}
		seen.Add(uint32(v - last))
		last = v
	}
	wg.Wait()
	t.Logf("%d reads, %d carries, %+v", reads, carries, w.Counts())
}
