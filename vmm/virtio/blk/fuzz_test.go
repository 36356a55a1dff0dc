package blk

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"offmap/memory"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

const (
	fuzzSize  = 64 << 10 // of the disk, in bytes
	fuzzArea  = memory.GPA(1 << 20)
	fuzzPages = 32
)

// FuzzRequests makes requests of any shape. Whatever they are, the device stays within
// the disk, writes to no RAM but where a descriptor lets it, and either answers all
// or is broken.
func FuzzRequests(f *testing.F) {
	f.Add([]byte{0, 3, 0, 0, 2, 0, 0, 2, 1, 1, 10, 3, 0, 2, 1})
	f.Add([]byte{1, 3, 1, 1, 2, 0, 0, 2, 1, 0, 10, 2, 0, 3, 0, 1, 0, 3, 4, 0, 1, 9, 3, 0, 2, 0, 2, 0, 8})
	f.Add([]byte{0, 3, 5, 3, 2, 0, 0, 2, 1, 0, 2, 4, 0, 3, 0, 1, 3, 6, 1, 2, 0, 0, 2, 1, 0, 2, 2, 2, 0})
	f.Add([]byte{1, 2, 0, 0, 255, 255, 14, 1, 1, 1, 1, 1, 1})
	layout, err := memory.LayoutOf(memory.Region{Size: 16 << 10}, memory.Region{Start: fuzzArea, Size: fuzzPages * memory.PageSize})
	if err != nil {
		f.Fatal(err)
	}
	ram, err := memory.New(memory.Anon, layout)
	if err != nil {
		f.Fatal(err)
	}
	kick, err := virtio.NewKick()
	if err != nil {
		f.Fatal(err)
	}
	image, err := os.Create(filepath.Join(f.TempDir(), "image"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { kick.Close(); ram.Close(); image.Close() })
	f.Fuzz(func(t *testing.T, in []byte) {
		z := &fuzz{t: t, in: in, ram: ram, kick: kick, image: image}
		z.run()
	})
}

type fuzz struct {
	t     *testing.T
	in    []byte
	ram   *memory.RAM
	kick  *virtio.Kick
	image *os.File
	want  []byte // RAM, as it must be where free isn't set
	free  []bool // where a descriptor lets the device write
	next  int    // descriptors used
}

// take takes a byte of the input.
func (z *fuzz) take() byte {
	if len(z.in) == 0 {
		return 0
	}
	b := z.in[0]
	z.in = z.in[1:]
	return b
}

func pick[T any](z *fuzz, list ...T) T { return list[int(z.take())%len(list)] }

func (z *fuzz) put(gpa memory.GPA, p []byte) {
	if gpa < fuzzArea {
		if _, err := z.ram.WriteAt(p, gpa); err != nil {
			z.t.Fatal(err)
		}
		return
	}
	if at := int(gpa - fuzzArea); at < len(z.want) {
		copy(z.want[at:], p)
	}
}

func (z *fuzz) run() {
	t := z.t
	image := noise(1, fuzzSize)
	if _, err := z.image.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	o := kinds[int(z.take())%len(kinds)].Options
	disk, err := Open(z.image.Name(), o)
	if err != nil {
		t.Fatal(err)
	}
	fence := &fence{store: disk.store, t: t}
	disk.store = fence
	defer disk.Close()

	z.want, z.free = noise(2, fuzzPages*memory.PageSize), make([]bool, fuzzPages*memory.PageSize)
	ring := virtio.Rings{Size: 64, Desc: 0, Avail: 0x1000, Used: 0x2000}
	z.put(0, make([]byte, 16<<10))
	var heads int
	for len(z.in) > 0 && heads < 8 {
		z.put(ring.Avail+4+memory.GPA(2*heads), binary.LittleEndian.AppendUint16(nil, uint16(z.next)))
		z.request(ring)
		heads++
	}
	if heads == 0 {
		return
	}
	if _, err := z.ram.WriteAt(z.want, fuzzArea); err != nil {
		t.Fatal(err)
	}
	z.put(ring.Avail+2, binary.LittleEndian.AppendUint16(nil, uint16(heads)))

	var used atomic.Int32
	all := make(chan struct{})
	q, err := virtio.NewQueue(z.ram, ring, queueSize, disk.Features(), z.kick, func() {
		if int(used.Add(1)) == heads {
			close(all)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- disk.Serve(0, q, disk.Features()) }()
	z.kick.Signal()
	limit := time.After(virtiotest.Limit)
	select {
	case <-all:
		q.Stop()
		if err := <-ended; err != nil {
			t.Errorf("all were answered, then: %v", err)
		}
	case <-ended:
	case <-limit:
		t.Fatalf("%d of %d requests answered", used.Load(), heads)
	}
	z.check(fence, image, o)
}

// request writes a request: descriptors anywhere, and where its header and data would
// be, bytes that make sense more often than noise does.
func (z *fuzz) request(ring virtio.Rings) {
	n := 1 + int(z.take())%6
	kind := pick[uint32](z, typeIn, typeOut, typeFlush, typeGetID, typeWriteZeroes, typeDiscard, 14, 0x80000001)
	at := pick[uint64](z, 0, 1, 7, fuzzSize/sector-1, fuzzSize/sector, 1<<55, ^uint64(0))
	var readable int
	for i := range n {
		gpa := fuzzArea + memory.GPA(z.take())*513 + memory.GPA(z.take())
		length := pick[uint32](z, 1, 15, 16, 17, 32, idSize, 511, 512, 513, 1024, 4096, 8192, 64<<10, 1<<20, 1<<31, ^uint32(0))
		flags := uint16(0)
		switch kind := z.take(); {
		case kind&3 == 1 || kind&3 == 3:
			flags |= virtiotest.Write
		case kind == 0x40:
			gpa = 1 << 30
		}
		if i < n-1 {
			flags |= virtiotest.Next
		}
		if flags&virtiotest.Write != 0 {
			for b := range uint64(length) {
				at := uint64(gpa-fuzzArea) + b
				if at >= uint64(len(z.free)) {
					break
				}
				z.free[at] = true
			}
		} else {
			switch readable++; readable {
			case 1:
				z.put(gpa, header(kind, at))
				z.put(gpa+headerSize, segmentBytes(at, uint32(z.take()), uint32(z.take()&1)))
			case 2:
				z.put(gpa, segmentBytes(at, uint32(z.take()), uint32(z.take()&1)))
			}
		}
		d := virtiotest.Desc{GPA: gpa, Len: length, Flags: flags, Next: uint16(z.next + 1)}
		z.put(ring.Desc+memory.GPA(16*z.next), d.Bytes())
		z.next++
	}
}

func (z *fuzz) check(fence *fence, image []byte, o Options) {
	t := z.t
	got := make([]byte, len(z.want))
	if _, err := z.ram.ReadAt(got, fuzzArea); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if got[i] != z.want[i] && !z.free[i] {
			t.Fatalf("the device wrote to RAM that no descriptor lets it write to, at %s", fuzzArea+memory.GPA(i))
		}
	}
	now := content(t, z.image.Name())
	if len(now) != len(image) || (o.Overlay || !fence.changed.Load()) && !bytes.Equal(now, image) {
		t.Fatal("the image has changed")
	}
}

// fence is a store that fails the test if an access goes past the disk.
type fence struct {
	store
	t       *testing.T
	changed atomic.Bool
}

func (f *fence) flush() error { return nil } // it would wait for a disk

func (f *fence) in(off, n int64) {
	if off < 0 || n < 0 || off > fuzzSize || n > fuzzSize-off {
		f.t.Errorf("access of %d bytes at %d", n, off)
	}
}

func (f *fence) read(g memory.Guest, buf memory.Ranges, off int64, wait bool) (uint64, error) {
	f.in(off, int64(buf.Size()))
	return f.store.read(g, buf, off, wait)
}

func (f *fence) write(g memory.Guest, buf memory.Ranges, off int64, wait bool) (uint64, error) {
	f.in(off, int64(buf.Size()))
	f.changed.Store(true)
	return f.store.write(g, buf, off, wait)
}

func (f *fence) zero(off, n int64, unmap bool) error {
	f.in(off, n)
	f.changed.Store(true)
	return f.store.zero(off, n, unmap)
}

func (f *fence) discard(off, n int64) error {
	f.in(off, n)
	f.changed.Store(true)
	return f.store.discard(off, n)
}
