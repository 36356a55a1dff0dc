package window

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
)

// TestVectorDirect holds that a file that is open with O_DIRECT is refused, and why.
func TestVectorDirect(t *testing.T) {
	memtest.Direct(t, newWindow(t, memtest.Layout(t), Config{Size: MinSize}))
}

// TestVectorParts moves more than fits a staging buffer, to the end of the file and
// beyond, and at the file's own position no more than one call moves.
func TestVectorParts(t *testing.T) {
	w := newWindow(t, flat(t, 2<<20), Config{Size: MinSize})
	content := make([]byte, 3*stagingSize+777)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	src, dst := filepath.Join(t.TempDir(), "src"), filepath.Join(t.TempDir(), "dst")
	if err := os.WriteFile(src, content, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for _, size := range []int{stagingSize, stagingSize + 1, 3 * stagingSize, len(content), len(content) + 5000} {
		buf := memory.Ranges{{GPA: 100, Size: 5000}, {GPA: 8192, Size: uint32(size - 5000)}}
		want := content[:min(size, len(content))]
		if n, err := w.Preadv(int(in.Fd()), buf, 0, 0); n != len(want) || err != nil {
			t.Errorf("Preadv of %d bytes = %d, %v", size, n, err)
		}
		if n, err := w.Pwritev(int(out.Fd()), buf, 0, 0); n != size || err != nil {
			t.Errorf("Pwritev of %d bytes = %d, %v", size, n, err)
		}
		if got, err := os.ReadFile(dst); err != nil || !bytes.HasPrefix(got, want) {
			t.Errorf("%d bytes: what went through guest memory isn't the same (%v)", size, err)
		}
	}
	buf := memory.Ranges{{GPA: 0, Size: 1 << 20}}
	if n, err := w.Preadv(int(in.Fd()), buf, -1, 0); n != stagingSize || err != nil {
		t.Errorf("Preadv at the file's position = %d, %v; want %d", n, err, stagingSize)
	}
}

// TestVectorStress has guests use all pages while they are evicted, and devices move
// files through the same pages: each has a part of its own in every page.
func TestVectorStress(t *testing.T) {
	const pages = 4 << 20 / memory.PageSize
	w := newWindow(t, flat(t, pages*memory.PageSize), Config{Size: MinSize, Threads: 2})
	stop := w.watch(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	var passes [4]atomic.Int32
	var done atomic.Bool
	for who := range 2 { // guests: a word that counts their writes
		pipe := newPipe(t)
		wg.Go(func() {
			counts := make([]uint64, pages)
			var b [8]byte
			r := rand.New(rand.NewPCG(uint64(who), 1))
			for ; !done.Load(); passes[who].Add(1) {
				page := r.Uint64N(pages)
				off := page*memory.PageSize + uint64(who)*8
				if err := w.guestRead(pipe, off, b[:]); err != nil {
					t.Error(err)
					return
				}
				if got := binary.LittleEndian.Uint64(b[:]); got != counts[page] {
					t.Errorf("guest %d: page %d has count %d, want %d: an update was lost", who, page, got, counts[page])
					return
				}
				counts[page]++
				binary.LittleEndian.PutUint64(b[:], counts[page])
				if err := w.guestWrite(pipe, off, b[:]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for who := 2; who < 4; who++ { // devices: 1 KiB of every page
		f, err := os.OpenFile(filepath.Join(dir, string(rune('a'+who))), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(who), 1))
			disk, ram := int(f.Fd()), make([]byte, pages<<10) // ram is what the device's part has
			for ; !done.Load(); passes[who].Add(1) {
				var buf memory.Ranges
				var is, want []byte
				for range 1 + r.IntN(300) {
					page, at := r.IntN(pages), r.IntN(1<<10)
					n := 1 + r.IntN(1<<10-at)
					buf = append(buf, memory.Range{GPA: memory.GPA(page*memory.PageSize + who<<10 + at), Size: uint32(n)})
					is = append(is, ram[page<<10+at:][:n]...)
				}
				got := make([]byte, len(is))
				if n, err := w.Pwritev(disk, buf, 0, 0); n != len(got) || err != nil {
					t.Errorf("Pwritev = %d, %v", n, err)
					return
				}
				if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, is) {
					t.Errorf("device %d: guest memory isn't what was read to it (%v)", who, err)
					return
				}
				for range got {
					want = append(want, byte(r.Uint32()))
				}
				if _, err := f.WriteAt(want, 0); err != nil {
					t.Error(err)
					return
				}
				if n, err := w.Preadv(disk, buf, 0, 0); n != len(got) || err != nil {
					t.Errorf("Preadv = %d, %v", n, err)
					return
				}
				for _, p := range buf {
					page, at := int(p.GPA)/memory.PageSize, int(p.GPA)%memory.PageSize-who<<10
					want = want[copy(ram[page<<10+at:][:p.Size], want):]
				}
			}
		})
	}
	least, evicted := int32(50), uint64(1000)
	if testing.Short() { // an emulated machine
		least, evicted = 5, 50
	}
	for hang := time.Now().Add(5 * time.Minute); passes[2].Load() < least || passes[3].Load() < least || w.Counts().Evicted < evicted; time.Sleep(10 * time.Millisecond) {
		if t.Failed() || time.Now().After(hang) {
			t.Errorf("device passes: %d and %d, %+v", passes[2].Load(), passes[3].Load(), w.Counts())
			break
		}
	}
	done.Store(true)
	wg.Wait()
	most := stop()
	if err := w.Err(); err != nil {
		t.Error(err)
	}
	if most > MinSize {
		t.Errorf("%d KiB of frames: the bound is %d", most>>10, MinSize>>10)
	}
}

// TestVectorHoldsNothing holds that a system call which waits for its file, here for
// the bytes of a pipe, keeps neither the guest nor other devices from the same page.
func TestVectorHoldsNothing(t *testing.T) {
	w := newWindow(t, flat(t, 1<<20), Config{Size: MinSize})
	pipe, empty := newPipe(t), newPipe(t)
	buf := memory.Ranges{{GPA: 16, Size: 5}}
	got := make(chan error)
	go func() {
		_, err := w.Preadv(empty[0], buf, -1, 0)
		got <- err
	}()
	for inUse := 0; inUse == 0; time.Sleep(time.Millisecond) {
		w.staging.mu.Lock()
		inUse = len(w.staging.all) - len(w.staging.free)
		w.staging.mu.Unlock()
	}
	for page := range uint64(256) { // until all pages have been evicted
		if err := w.guestWrite(pipe, page*memory.PageSize, []byte{byte(page)}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := unix.MemfdCreate("offmap-test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	if n, err := w.Pwritev(other, buf, 0, 0); n != 5 || err != nil {
		t.Fatalf("Pwritev beside a call that waits = %d, %v", n, err)
	}
	if _, err := unix.Write(empty[1], []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if err := w.guestRead(pipe, 16, b); err != nil || string(b) != "bytes" {
		t.Errorf("the guest reads %q, %v", b, err)
	}
}

// FuzzVectors compares Preadv and Pwritev with a model, with all pages in the store.
func FuzzVectors(f *testing.F) {
	f.Add([]byte{0, 1, 200, 5, 3, 250, 9, 0}, int64(100))
	w := newWindow(f, memtest.Layout(f), Config{Size: MinSize})
	content, src, dst := memtest.FuzzFiles(f)
	f.Fuzz(func(t *testing.T, data []byte, off int64) {
		memtest.FuzzVectors(t, w, src, dst, content, data, off)
	})
}
