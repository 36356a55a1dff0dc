package blk

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory/memtest"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

// kinds are the ways in which a disk can be opened for writing.
var kinds = []struct {
	name string
	Options
}{
	{"buffered", Options{}},
	{"overlay", Options{Overlay: true}},
	{"direct", Options{Cache: CacheNone}},
	{"direct-4096", Options{Cache: CacheNone}},
	{"direct-overlay", Options{Cache: CacheNone, Overlay: true}},
}

// TestModel makes random requests, and holds what they do against a slice of bytes.
func TestModel(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			path, want := newImage(t, 4<<20+4096)
			var change []func(*Disk)
			if kind.name == "direct-4096" {
				change = append(change, in4096)
			}
			testModel(t, path, want, kind.Options, change...)
		})
	}
}

// testModel does it with the disk at path, which has want at the start.
func testModel(t *testing.T, path string, want []byte, o Options, change ...func(*Disk)) {
	before, size := slices.Clone(want), len(want)
	disk, drv := openDisk(t, path, o, change...)
	r := rand.New(rand.NewPCG(1, 2))
	var counts [3]uint64
	for i := range 1500 {
		n := 1 + r.IntN(8)
		if i%10 == 0 {
			n = 1 + r.IntN(600)
		}
		at := r.IntN(size/sector - n + 1)
		here := want[at*sector:][:n*sector]
		cut := r.IntN(len(here)) // pieces need not be whole sectors
		switch r.IntN(8) {
		case 0, 1, 2:
			data := noise(uint64(i), len(here))
			copy(here, data)
			write(t, drv, uint64(at), data[:cut+1], data[cut+1:])
			counts[0]++
			counts[2] += uint64(len(here))
		case 3:
			st, _, _ := ask(drv, typeWriteZeroes, 0, [][]byte{segmentBytes(uint64(at), uint32(n), uint32(r.IntN(2)))})
			if st != statusOK {
				t.Fatalf("write of zeros: status %d", st)
			}
			clear(here)
		case 4:
			st, _, _ := ask(drv, typeDiscard, 0, [][]byte{segmentBytes(uint64(at), uint32(n), 0)})
			if st != statusOK {
				t.Fatalf("discard: status %d", st)
			}
			// On this host's file systems a discard makes zeros.
			start, end := int64(at*sector), int64((at+n)*sector)
			if !o.Overlay {
				start, end = inner(start, end-start) // it leaves edges alone
			}
			clear(want[min(start, end):end])
		case 5:
			if st, written, _ := ask(drv, typeFlush, 0, nil); st != statusOK || written != 1 {
				t.Fatalf("flush: status %d, %d bytes written", st, written)
			}
		default:
			got := read(t, drv, uint64(at), slices.DeleteFunc([]int{cut, len(here) - cut}, func(n int) bool { return n == 0 })...)
			if !bytes.Equal(got, here) {
				t.Fatalf("request %d: read of %d sectors at %d differs", i, n, at)
			}
			counts[1]++
		}
	}
	if got := read(t, drv, 0, size); !bytes.Equal(got, want) {
		t.Error("the disk isn't what was written")
	}
	if o.Overlay {
		want = before
	}
	if got := content(t, path); !bytes.Equal(got, want) {
		t.Error("the image isn't what it should be")
	}
	s := disk.Stats()
	if s.Requests["write"] != counts[0] || s.Requests["read"] != counts[1]+1 || s.WrittenBytes != counts[2] || s.ReadBytes < uint64(size) {
		t.Errorf("stats %+v", s)
	}
}

// TestConcurrent has many requests in flight, of which some go to workers: none
// sees another's data.
func TestConcurrent(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			defer memtest.Leaks(t)()
			const each = maxInline * 3 / 2
			path, _ := newImage(t, 16*each)
			t.Run("", func(t *testing.T) {
				_, drv := openDisk(t, path, kind.Options)
				var all sync.WaitGroup
				for i := range 16 {
					all.Go(func() {
						at := uint64(i * each / sector)
						for round := range 8 {
							data := noise(uint64(i*100+round), each)
							dropCache(path)
							wait(t, drv, typeOut, at, [][]byte{data[:100], data[100 : each/2], data[each/2:]})
							dropCache(path)
							if got := wait(t, drv, typeIn, at, nil, 1000, each-1000); !bytes.Equal(got, data) {
								t.Errorf("block %d round %d differs", i, round)
							}
							wait(t, drv, typeFlush, 0, nil)
						}
					})
				}
				all.Wait()
			})
		})
	}
}

// dropCache makes reads wait for the disk.
func dropCache(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// wait is ask for several goroutines.
func wait(t *testing.T, drv *virtiotest.Driver, kind uint32, at uint64, data [][]byte, in ...int) []byte {
	_, out, ok := drv.Rings[0].Send(append([][]byte{header(kind, at)}, data...), append(in, 1)).Wait()
	if !ok || status(out[len(out)-1][0]) != statusOK {
		t.Errorf("request of type %d at %d: answered %v, status %v", kind, at, ok, out[len(out)-1])
	}
	return bytes.Join(out[:len(out)-1], nil)
}

// TestRefused has the requests that change nothing.
func TestRefused(t *testing.T) {
	const sectors = 64
	const most = ^uint64(0)
	block := make([]byte, sector)
	for _, c := range []struct {
		name string
		kind uint32
		at   uint64
		data [][]byte
		in   []int
		want status
	}{
		{"read past the end", typeIn, sectors, nil, []int{sector}, statusIOErr},
		{"read over the end", typeIn, sectors - 1, nil, []int{2 * sector}, statusIOErr},
		{"read far away", typeIn, most, nil, []int{sector}, statusIOErr},
		{"read at what overflows", typeIn, most/sector + 1, nil, []int{sector}, statusIOErr},
		{"read of half a sector", typeIn, 0, nil, []int{sector / 2}, statusIOErr},
		{"read of nothing at the end", typeIn, sectors, nil, nil, statusOK},
		{"write over the end", typeOut, sectors - 1, [][]byte{block, block}, nil, statusIOErr},
		{"write far away", typeOut, most, [][]byte{block}, nil, statusIOErr},
		{"write of half a sector", typeOut, 0, [][]byte{block[1:]}, nil, statusIOErr},
		{"discard over the end", typeDiscard, 0, [][]byte{segmentBytes(sectors, 1, 0)}, nil, statusIOErr},
		{"discard that overflows", typeDiscard, 0, [][]byte{segmentBytes(most, 1, 0)}, nil, statusIOErr},
		{"discard of a good and a bad segment", typeDiscard, 0, [][]byte{segmentBytes(0, 1, 0), segmentBytes(1, sectors, 0)}, nil, statusIOErr},
		{"discard with unmap", typeDiscard, 0, [][]byte{segmentBytes(0, 1, flagUnmap)}, nil, statusUnsupp},
		{"discard of nothing", typeDiscard, 0, nil, nil, statusIOErr},
		{"discard of part of a segment", typeDiscard, 0, [][]byte{segmentBytes(0, 1, 0)[1:]}, nil, statusIOErr},
		{"discard of too many segments", typeDiscard, 0, [][]byte{make([]byte, segmentSize*(maxDiscardSegs+1))}, nil, statusIOErr},
		{"zeros with a reserved flag", typeWriteZeroes, 0, [][]byte{segmentBytes(0, 1, 2)}, nil, statusUnsupp},
		{"zeros in too many segments", typeWriteZeroes, 0, [][]byte{make([]byte, segmentSize*(maxZeroSegs+1))}, nil, statusIOErr},
		{"zeros over the end", typeWriteZeroes, 0, [][]byte{segmentBytes(sectors-1, 2, 0)}, nil, statusIOErr},
		{"secure erase", 14, 0, [][]byte{segmentBytes(0, 1, 0)}, nil, statusUnsupp},
		{"what no device knows", 0xffffffff, 0, nil, nil, statusUnsupp},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, want := newImage(t, sectors*sector)
			_, drv := openDisk(t, path, Options{})
			st, _, out := ask(drv, c.kind, c.at, c.data, c.in...)
			if st != c.want {
				t.Errorf("status %d, want %d", st, c.want)
			}
			if !bytes.Equal(out, make([]byte, len(out))) {
				t.Error("the guest got data")
			}
			if !bytes.Equal(content(t, path), want) {
				t.Error("the image has changed")
			}
			if got := read(t, drv, 0, sector); !bytes.Equal(got, want[:sector]) {
				t.Error("the next request fails")
			}
		})
	}
}

// TestReadOnly tries to change a read-only disk.
func TestReadOnly(t *testing.T) {
	path, want := newImage(t, 4096)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	disk, drv := openDisk(t, path, Options{ReadOnly: true, Log: func(err error) { t.Errorf("the host was asked: %v", err) }})
	if f := disk.Features(); f>>featRO&1 != 1 || f>>featDiscard&1 != 0 || f>>featWriteZeroes&1 != 0 {
		t.Errorf("features %#x", f)
	}
	for kind, data := range map[uint32][]byte{typeOut: make([]byte, sector), typeDiscard: segmentBytes(0, 1, 0), typeWriteZeroes: segmentBytes(0, 1, 0)} {
		if st, _, _ := ask(drv, kind, 0, [][]byte{data}); st != statusIOErr {
			t.Errorf("type %d: status %d", kind, st)
		}
	}
	if st, _, _ := ask(drv, typeFlush, 0, nil); st != statusOK {
		t.Errorf("flush: status %d", st)
	}
	if got := read(t, drv, 0, 4096); !bytes.Equal(got, want) || !bytes.Equal(content(t, path), want) {
		t.Error("the disk isn't the image")
	}
}

// TestLayouts has requests whose header, data and status share descriptors.
func TestLayouts(t *testing.T) {
	path, want := newImage(t, 8192)
	_, drv := openDisk(t, path, Options{})
	h := header(typeIn, 1)
	written, out := drv.Request(0, [][]byte{h[:1], h[1:15], h[15:]}, []int{100, sector - 100 + 1})
	if b := bytes.Join(out, nil); written != sector+1 || !bytes.Equal(b[:sector], want[sector:2*sector]) || b[sector] != 0 {
		t.Error("read with the status behind the data")
	}
	data := noise(7, sector)
	if _, out := drv.Request(0, [][]byte{append(header(typeOut, 2), data[:9]...), data[9:]}, []int{3}); !bytes.Equal(out[0], []byte{0, 0, 0}) {
		t.Errorf("write with the data behind the header: %v", out)
	}
	copy(want[2*sector:], data)
	if !bytes.Equal(content(t, path), want) {
		t.Error("the image isn't what was written")
	}
}

// TestNoAnswer has requests to which there can be no answer: the device needs a reset.
func TestNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		readable [][]byte
		writable []int
	}{
		"short header": {[][]byte{make([]byte, headerSize-1)}, []int{1}},
		"no header":    {nil, []int{sector + 1}},
		"no status":    {[][]byte{header(typeOut, 0), make([]byte, sector)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path, want := newImage(t, 4096)
			_, drv := openDisk(t, path, Options{})
			drv.Rings[0].Send(c.readable, c.writable)
			if err := drv.Broken(); !errors.Is(err, errShape) {
				t.Error(err)
			}
			_ = drv.Reset(^uint64(0))
			if got := read(t, drv, 0, 4096); !bytes.Equal(got, want) {
				t.Error("the disk isn't the image after the reset")
			}
		})
	}
}

func TestID(t *testing.T) {
	path, _ := newImage(t, 4096)
	_, drv := openDisk(t, path, Options{})
	if st, written, out := ask(drv, typeGetID, 0, nil, idSize); st != statusOK || written != idSize+1 || string(out) != "an-image.img\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("status %d, %d written, %q", st, written, out)
	}
	if st, written, out := ask(drv, typeGetID, 0, nil, 30); st != statusOK || written != idSize || !bytes.HasPrefix(out, []byte("an-image.img\x00")) {
		t.Errorf("status %d, %d written, %q", st, written, out)
	}
}

// TestWriteThrough has a driver without flushes: its writes are durable at once.
func TestWriteThrough(t *testing.T) {
	path, _ := newImage(t, 1<<20)
	disk, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	flushes := &counting{store: disk.store}
	disk.store = flushes
	drv := virtiotest.NewWith(t, disk, ^uint64(1<<featFlush))
	write(t, drv, 0, make([]byte, sector))
	ask(drv, typeWriteZeroes, 0, [][]byte{segmentBytes(9, 1, 0)})
	if read(t, drv, 0, sector); flushes.n != 2 {
		t.Errorf("%d flushes", flushes.n)
	}
	_ = drv.Reset(^uint64(0))
	write(t, drv, 0, make([]byte, sector))
	if flushes.n != 2 {
		t.Errorf("a driver with flushes got %d", flushes.n)
	}
}

type counting struct {
	store
	n int
}

func (c *counting) flush() error { c.n++; return c.store.flush() }

// TestErrors has a host whose file fails: the guest gets I/O errors, and the log a
// line of each kind.
func TestErrors(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) { testErrors(t, kind.Options) })
	}
}

func testErrors(t *testing.T, o Options) {
	path, want := newImage(t, 1<<20)
	var log []string
	var mu sync.Mutex
	o.Log = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, err.Error())
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v", err)
		}
	}
	_, drv := openDisk(t, path, o)
	if err := os.Truncate(path, 4096+100); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		st, written, out := ask(drv, typeIn, 0, nil, 4096, 4096)
		if st != statusIOErr || written > 4096+100 || !bytes.Equal(out[:written], want[:written]) {
			t.Errorf("read of an image that has shrunk: status %d, %d bytes written", st, written)
		}
	}
	if got := read(t, drv, 0, 4096); !bytes.Equal(got, want[:4096]) {
		t.Error("what is left can't be read")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(log) != 1 || !strings.Contains(log[0], "read failed") {
		t.Errorf("log: %q", log)
	}
}

// TestDiskFull has an overlay on a file system that is full.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1M"); err != nil {
		t.Skipf("SKIPPED: mount of a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("", func(t *testing.T) {
		path, want := newImage(t, 4<<20)
		t.Setenv("TMPDIR", dir)
		_, drv := openDisk(t, path, Options{Overlay: true, Log: func(err error) {
			if !errors.Is(err, unix.ENOSPC) {
				t.Error(err)
			}
		}})
		var full int
		for at := 0; at < len(want); at += 256 << 10 {
			data := noise(uint64(at), 256<<10)
			switch st, _, _ := ask(drv, typeOut, uint64(at/sector), [][]byte{data}); {
			case st == statusOK && full == 0:
				copy(want[at:], data)
			case st == statusIOErr:
				full++
			default:
				t.Fatalf("status %d after %d errors", st, full)
			}
		}
		// Where a write failed there is what it wrote, or what was there before.
		tail := read(t, drv, uint64(1<<20/sector), 3<<20)
		for i := 0; i < len(tail); i += sector {
			at := 1<<20 + i
			written := noise(uint64(at&^(256<<10-1)), 256<<10)[at%(256<<10):][:sector]
			if !bytes.Equal(tail[i:i+sector], want[at:at+sector]) && !bytes.Equal(tail[i:i+sector], written) {
				t.Fatalf("sector %d is neither", at/sector)
			}
		}
		if full < 8 {
			t.Errorf("%d writes failed", full)
		}
		if got := read(t, drv, 0, 512<<10); !bytes.Equal(got, want[:512<<10]) {
			t.Error("what was written before isn't there")
		}
		// A discard makes room.
		ask(drv, typeDiscard, 0, [][]byte{segmentBytes(0, 4<<20/sector, 0)})
		write(t, drv, 0, want[:4096])
	})
}

// TestConfig holds the configuration space against its fields.
func TestConfig(t *testing.T) {
	path, _ := newImage(t, 1<<20)
	disk, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	c := disk.Config()
	if len(c) != 60 || c[1] != 8 || c[12] != segMax || c[21] != 2 || c[24] != 3 || c[56] != 1 {
		t.Errorf("%d bytes: %x", len(c), c)
	}
	var _ virtio.Device = disk
}

func TestBitmap(t *testing.T) {
	const n = 300
	b := make(bitmap, (n+63)/64)
	var model [n]bool
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		at := r.IntN(n)
		size := r.IntN(n - at + 1)
		if r.IntN(40) == 0 {
			clear(b)
			clear(model[:])
		}
		if r.IntN(3) == 0 && size < 80 {
			b.set(int64(at), int64(size))
			for i := range size {
				model[at+i] = true
			}
		}
		if size == 0 {
			continue
		}
		want := 1
		for want < size && model[at+want] == model[at] {
			want++
		}
		if got, set := b.run(int64(at), int64(size)); got != int64(want) || set != model[at] {
			t.Fatalf("%d from %d on: run of %d %v, want %d %v", size, at, got, set, want, model[at])
		}
	}
}
