package virtio_test

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

// requests is a queue with requests of a block device in it: 16 bytes and 4 KiB that
// the device reads, a byte that it writes.
type requests struct {
	q    *virtio.Queue
	ring *virtiotest.Ring
	kick *virtio.Kick
	idx  uint16
	per  int // descriptors in the queue for each
	buf  [2]byte
}

const queueSize = 128

func newRequests(tb testing.TB, indirect bool) *requests {
	layout, err := memory.LayoutOf(memory.Region{Size: 64 << 20})
	if err != nil {
		tb.Fatal(err)
	}
	ram, err := memory.New(memory.Anon, layout)
	if err != nil {
		tb.Fatal(err)
	}
	kick, err := virtio.NewKick()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { kick.Close(); ram.Close() })
	r := &requests{kick: kick, ring: virtiotest.NewRing(tb, ram, queueSize, 0, memory.Range{GPA: 1 << 20, Size: 60 << 20})}
	if r.q, err = virtio.NewQueue(ram, r.ring.Rings, queueSize, virtio.EventIdx|virtio.IndirectDesc, kick, func() {}); err != nil {
		tb.Fatal(err)
	}
	pieces := func(at memory.GPA, from int) []virtiotest.Desc {
		return []virtiotest.Desc{
			{GPA: at, Len: 16, Flags: virtiotest.Next, Next: uint16(from + 1)},
			{GPA: at + 4096, Len: 4096, Flags: virtiotest.Next, Next: uint16(from + 2)},
			{GPA: at + 32, Len: 1, Flags: virtiotest.Write},
		}
	}
	r.per = 4
	for i := 0; i < queueSize; i += r.per {
		at := memory.GPA(1<<20 + i<<14)
		if indirect {
			var b []byte
			for _, d := range pieces(at, 0) {
				b = append(b, d.Bytes()...)
			}
			r.ring.Put(at+256, b)
			r.ring.SetDesc(i, virtiotest.Desc{GPA: at + 256, Len: 48, Flags: virtiotest.Indirect})
			continue
		}
		for k, d := range pieces(at, i) {
			r.ring.SetDesc(i+k, d)
		}
	}
	for i := range queueSize {
		r.ring.SetHead(uint16(i), uint16(i*r.per%queueSize))
	}
	return r
}

// round makes n requests available, takes and uses them.
func (r *requests) round(tb testing.TB, n int) {
	r.idx += uint16(n)
	binary.LittleEndian.PutUint16(r.buf[:], r.idx)
	if _, err := r.q.Guest().WriteAt(r.buf[:], r.ring.Avail+2); err != nil {
		tb.Fatal(err)
	}
	for range n {
		c, err := r.q.Next()
		if err != nil || len(c.Readable) != 2 {
			tb.Fatal(err)
		}
		if err := r.q.Done(c, 1); err != nil {
			tb.Fatal(err)
		}
	}
}

// cpuTime returns the CPU time of this process in nanoseconds, which a busy machine
// doesn't add to.
func cpuTime(tb testing.TB) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		tb.Fatal(err)
	}
	return t.Nano()
}

// BenchmarkQueue measures the queue's part of a request, for one request at a time and
// for 32, with the driver's store of the index.
func BenchmarkQueue(b *testing.B) {
	for _, bb := range []struct {
		name     string
		indirect bool
		depth    int
	}{{"direct/1", false, 1}, {"direct/32", false, 32}, {"indirect/1", true, 1}, {"indirect/32", true, 32}} {
		b.Run(bb.name, func(b *testing.B) {
			r := newRequests(b, bb.indirect)
			b.ReportAllocs()
			start := cpuTime(b)
			for i := 0; i < b.N; i += bb.depth {
				r.round(b, bb.depth)
			}
			b.ReportMetric(float64(cpuTime(b)-start)/float64(b.N), "cpu-ns/op")
		})
	}
}

// TestAllocs holds that a request allocates nothing.
func TestAllocs(t *testing.T) {
	for _, indirect := range []bool{false, true} {
		r := newRequests(t, indirect)
		r.round(t, 32)
		if n := testing.AllocsPerRun(1000, func() { r.round(t, 1) }); n > 0 {
			t.Errorf("indirect %v: %v allocations for a request", indirect, n)
		}
	}
}

// BenchmarkKick measures a request for which the device is woken by an eventfd, and the
// driver by another, as vCPUs are: from one thread to another, and back.
func BenchmarkKick(b *testing.B) {
	r := newRequests(b, false)
	irq, err := virtio.NewKick()
	if err != nil {
		b.Fatal(err)
	}
	defer irq.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := r.q.Next()
			if err == nil {
				err = r.q.Done(c, 1)
			}
			if err != nil {
				return
			}
			irq.Signal()
		}
	}()
	b.ReportAllocs()
	var count [8]byte
	for b.Loop() {
		r.idx++
		binary.LittleEndian.PutUint16(r.buf[:], r.idx)
		if _, err := r.q.Guest().WriteAt(r.buf[:], r.ring.Avail+2); err != nil {
			b.Fatal(err)
		}
		r.kick.Signal()
		if _, err := unix.Read(irq.FD(), count[:]); err != nil {
			b.Fatal(err)
		}
	}
	r.q.Stop()
	<-served
}
