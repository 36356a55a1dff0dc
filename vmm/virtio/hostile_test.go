package virtio_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"offmap/memory"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

// raw is a queue without a device, in RAM of two regions that touch, a hole, and one
// more.
type raw struct {
	*virtiotest.Ring
	ram        *memory.RAM
	q          *virtio.Queue
	interrupts int
}

const (
	rawSize = 8
	lowEnd  = memory.GPA(0x20_0000) // the first byte of the hole
	high    = memory.GPA(1 << 30)
	highEnd = high + 6<<30
)

func newRaw(t testing.TB, features uint64) *raw {
	t.Helper()
	layout, err := memory.LayoutOf(memory.Region{Size: 1 << 20}, memory.Region{Start: 1 << 20, Size: 1 << 20},
		memory.Region{Start: high, Size: 6 << 30})
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{}
	if r.ram, err = memory.New(memory.Anon, layout); err != nil {
		t.Fatal(err)
	}
	kick, err := virtio.NewKick()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kick.Close(); r.ram.Close() })
	r.Ring = virtiotest.NewRing(t, r.ram, rawSize, 0, memory.Range{GPA: high, Size: 1 << 20})
	r.q, err = virtio.NewQueue(r.ram, r.Rings, 16, features, kick, func() { r.interrupts++ })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// table writes descriptors as an indirect table at gpa.
func (r *raw) table(gpa memory.GPA, d ...desc) {
	for i, d := range d {
		r.Put(gpa+memory.GPA(16*i), virtiotest.Desc{GPA: d.gpa, Len: d.len, Flags: d.flags, Next: d.next}.Bytes())
	}
}

type (
	desc struct {
		gpa         memory.GPA
		len         uint32
		flags, next uint16
	}
	descs []desc
)

func (r *raw) SetDesc(i int, d desc) {
	r.Ring.SetDesc(i, virtiotest.Desc{GPA: d.gpa, Len: d.len, Flags: d.flags, Next: d.next})
}

const (
	next     = virtiotest.Next
	write    = virtiotest.Write
	indirect = virtiotest.Indirect
)

// TestChains has chains, from descriptor 0 on, and what the device makes of them.
func TestChains(t *testing.T) {
	long := func(n int) (d descs) { // an indirect table of n descriptors
		for i := range n {
			d = append(d, desc{0x5000, 1, next, uint16(i + 1)})
		}
		d[n-1].flags = 0
		return d
	}
	const table = 0x8000
	ind := func(n uint32) descs { return descs{{table, 16 * n, indirect, 0}} }
	tests := []struct {
		name     string
		descs    descs
		table    descs
		features uint64 // those that aren't negotiated
		want     string // readable and writable, or what the error has
	}{
		{"one", descs{{0x5000, 1, 0, 7}}, nil, 0, "[{0x5000 1}] []"},
		{"one to write", descs{{0x5000, 1, write, 7}}, nil, 0, "[] [{0x5000 1}]"},
		{"both", descs{{0x5000, 16, next, 1}, {0x6000, 8, write, 0}}, nil, 0, "[{0x5000 16}] [{0x6000 8}]"},
		{"backwards", descs{{0x5000, 1, next, 7}, {}, {}, {}, {}, {}, {0x6001, 3, write, 0}, {0x6000, 2, next | write, 6}}, nil, 0,
			"[{0x5000 1}] [{0x6000 2} {0x6001 3}]"},
		{"the same bytes twice", descs{{0x5000, 1, next, 1}, {0x5000, 1, write, 0}}, nil, 0, "[{0x5000 1}] [{0x5000 1}]"},
		{"unknown flags", descs{{0x5000, 1, 0xfff8, 1}}, nil, 0, "[{0x5000 1}] []"},
		{"over a seam", descs{{1<<20 - 1, 2, 0, 0}}, nil, 0, "[{0xfffff 2}] []"},
		{"up to the hole", descs{{lowEnd - 1, 1, 0, 0}}, nil, 0, "[{0x1fffff 1}] []"},
		{"up to the end", descs{{highEnd - 16, 16, 0, 0}}, nil, 0, "[{0x1bffffff0 16}] []"},
		{"as long as the ring", descs{
			{0x5000, 1, next, 1}, {0x5000, 1, next, 2}, {0x5000, 1, next, 3}, {0x5000, 1, next, 4},
			{0x5000, 1, next, 5}, {0x5000, 1, next, 6}, {0x5000, 1, next, 7}, {0x5000, 1, 0, 0}}, nil, 0,
			"[{0x5000 1} {0x5000 1} {0x5000 1} {0x5000 1} {0x5000 1} {0x5000 1} {0x5000 1} {0x5000 1}] []"},
		{"4 GiB", descs{{high, 1 << 31, next, 1}, {high, 1 << 31, write, 0}}, nil, 0, "[{0x40000000 2147483648}] [{0x40000000 2147483648}]"},

		{"indirect", ind(2), descs{{0x5000, 1, next, 1}, {0x6000, 2, write, 0}}, 0, "[{0x5000 1}] [{0x6000 2}]"},
		{"indirect, write-only is ignored", descs{{table, 16, indirect | write, 0}}, descs{{0x5000, 1, 0, 0}}, 0, "[{0x5000 1}] []"},
		{"indirect as the last", descs{{0x5000, 1, next, 3}, {}, {}, {table, 32, indirect, 0}}, descs{{0x6000, 2, next, 1}, {0x7000, 3, write, 0}}, 0,
			"[{0x5000 1} {0x6000 2}] [{0x7000 3}]"},
		{"indirect, part of the table", ind(3), descs{{0x5000, 1, next, 2}, {}, {0x6000, 2, 0, 0}}, 0, "[{0x5000 1} {0x6000 2}] []"},
		{"indirect, longer than the ring", ind(16), long(16), 0, "[" + strings.TrimSpace(strings.Repeat("{0x5000 1} ", 16)) + "] []"},

		{"empty", descs{{0x5000, 0, 0, 0}}, nil, 0, "empty"},
		{"empty piece", descs{{0x5000, 1, next, 1}, {0x5000, 0, write, 0}}, nil, 0, "empty"},
		{"hole", descs{{lowEnd, 1, 0, 0}}, nil, 0, "not guest RAM"},
		{"into the hole", descs{{lowEnd - 1, 2, 0, 0}}, nil, 0, "not guest RAM"},
		{"over the hole", descs{{lowEnd - 1, 1<<30 + 2, 0, 0}}, nil, 0, "not guest RAM"},
		{"end of RAM", descs{{highEnd, 1, 0, 0}}, nil, 0, "not guest RAM"},
		{"over the end of RAM", descs{{highEnd - 1, 2, 0, 0}}, nil, 0, "not guest RAM"},
		{"wraps", descs{{1<<64 - 1, 2, 0, 0}}, nil, 0, "not guest RAM"},
		{"wraps into RAM", descs{{1<<64 - 1, 1<<32 - 1, 0, 0}}, nil, 0, "not guest RAM"},
		{"over 4 GiB", descs{{high, 1 << 31, next, 1}, {high, 1 << 31, write | next, 2}, {high, 1, write, 0}}, nil, 0, "4 GiB"},
		{"order", descs{{0x5000, 1, write | next, 1}, {0x5000, 1, 0, 0}}, nil, 0, "device-readable after"},
		{"loop", descs{{0x5000, 1, next, 0}}, nil, 0, "loop"},
		{"loop of eight", descs{{0x5000, 1, next, 1}, {0x5000, 1, next, 2}, {0x5000, 1, next, 3}, {0x5000, 1, next, 4},
			{0x5000, 1, next, 5}, {0x5000, 1, next, 6}, {0x5000, 1, next, 7}, {0x5000, 1, next, 0}}, nil, 0, "loop"},
		{"no such descriptor", descs{{0x5000, 1, next, 8}}, nil, 0, "no such descriptor"},
		{"far away", descs{{0x5000, 1, next, 0xffff}}, nil, 0, "no such descriptor"},

		{"indirect, not negotiated", ind(1), descs{{0x5000, 1, 0, 0}}, virtio.IndirectDesc, "not negotiated"},
		{"indirect and next", descs{{table, 16, indirect | next, 1}, {0x5000, 1, 0, 0}}, descs{{0x5000, 1, 0, 0}}, 0, "not the last"},
		{"nested", ind(1), descs{{table, 16, indirect, 0}}, 0, "in an indirect table"},
		{"nested, at the end", ind(2), descs{{0x5000, 1, next, 1}, {table, 32, indirect, 0}}, 0, "in an indirect table"},
		{"empty table", ind(0), nil, 0, "table of 0 bytes"},
		{"half a descriptor", descs{{table, 24, indirect, 0}}, descs{{0x5000, 1, 0, 0}}, 0, "table of 24 bytes"},
		{"table too large", ind(17), long(17), 0, "table of 272 bytes"},
		{"table of 4 GiB", descs{{table, 0xfffffff0, indirect, 0}}, nil, 0, "table of 4294967280 bytes"},
		{"chain too long with its table", descs{{0x5000, 1, next, 1}, {table, 256, indirect, 0}}, long(16), 0, "loop"},
		{"table in the hole", descs{{lowEnd - 16, 32, indirect, 0}}, nil, 0, "not guest RAM"},
		{"table at the end", descs{{1<<64 - 16, 32, indirect, 0}}, nil, 0, "not guest RAM"},
		{"loop in a table", ind(2), descs{{0x5000, 1, next, 1}, {0x5000, 1, next, 0}}, 0, "loop"},
		{"leaves the table", ind(2), descs{{0x5000, 1, next, 1}, {0x5000, 1, next, 2}, {0x5000, 1, 0, 0}}, 0, "no such descriptor"},
		{"hole in a table", ind(1), descs{{lowEnd, 1, 0, 0}}, 0, "not guest RAM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRaw(t, (virtio.IndirectDesc|virtio.EventIdx)&^tt.features)
			for i, d := range tt.descs {
				r.SetDesc(i, d)
			}
			r.table(table, tt.table...)
			r.SetAvailIndex(1)
			var got string
			c, err := r.q.Next()
			if err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprintf("%v %v", c.Readable, c.Writable)
			}
			failed := !strings.HasPrefix(tt.want, "[")
			if failed && (err == nil || !strings.Contains(got, tt.want)) || !failed && got != tt.want {
				t.Fatalf("%s; want %s", got, tt.want)
			}
			if _, again := r.q.TryNext(); again != err {
				t.Errorf("then %v", again)
			}
		})
	}
}

// TestAvail has avail rings that break the rules.
func TestAvail(t *testing.T) {
	good := func(r *raw) { // 4 requests
		for i := range uint16(4) {
			r.SetDesc(int(i), desc{0x5000, 1, 0, 0})
			r.SetHead(i, i)
		}
		r.SetAvailIndex(4)
		for range 4 {
			if _, err := r.q.Next(); err != nil {
				panic(err)
			}
		}
	}
	tests := []struct {
		name string
		do   func(*raw)
		want string
	}{
		{"ahead by more than the ring", func(r *raw) { r.SetAvailIndex(9) }, "ahead"},
		{"far ahead", func(r *raw) { r.SetAvailIndex(0x8000) }, "ahead"},
		{"back", func(r *raw) { good(r); r.SetAvailIndex(3) }, "ahead"},
		{"back to the start", func(r *raw) { good(r); r.SetAvailIndex(0) }, "ahead"},
		{"no such descriptor", func(r *raw) { r.SetHead(0, 8); r.SetAvailIndex(1) }, "no such descriptor"},
		{"the last number", func(r *raw) { r.SetHead(0, 0xffff); r.SetAvailIndex(1) }, "no such descriptor"},
		{"more than the ring in flight", func(r *raw) {
			good(r)
			r.SetAvailIndex(12)
			for range 4 {
				if _, err := r.q.Next(); err != nil {
					panic(err)
				}
			}
		}, "at once"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRaw(t, virtio.EventIdx)
			tt.do(r)
			if c, err := r.q.Next(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want %q", c, err, tt.want)
			}
		})
	}
}

// TestReadOnce changes a descriptor, and the ring, after the device has read them.
func TestReadOnce(t *testing.T) {
	r := newRaw(t, virtio.IndirectDesc)
	r.SetDesc(0, desc{0x8000, 32, indirect, 0})
	r.table(0x8000, desc{0x5000, 1, next, 1}, desc{0x6000, 2, write, 0})
	r.SetDesc(1, desc{0x7000, 5, 0, 0})
	r.SetHead(1, 1)
	r.SetAvailIndex(2)
	c, err := r.q.Next()
	if err != nil {
		t.Fatal(err)
	}
	r.table(0x8000, desc{lowEnd, 1, next, 1}, desc{lowEnd, 0, 0, 0})
	r.SetHead(1, 0xffff)
	if got := fmt.Sprint(c.Readable, c.Writable); got != "[{0x5000 1}] [{0x6000 2}]" {
		t.Errorf("%s", got)
	}
	if c, err = r.q.Next(); err != nil || fmt.Sprint(c.Readable) != "[{0x7000 5}]" {
		t.Errorf("the second request: %v, %v", c, err)
	}
}

func TestTryNext(t *testing.T) {
	r := newRaw(t, virtio.EventIdx)
	if c, err := r.q.TryNext(); c != nil || err != nil {
		t.Errorf("an empty ring: %v, %v", c, err)
	}
	r.SetDesc(3, desc{0x5000, 1, 0, 0})
	r.SetHead(0, 3)
	r.SetAvailIndex(1)
	if c, err := r.q.TryNext(); c == nil || err != nil {
		t.Errorf("a request: %v, %v", c, err)
	}
	r.q.Stop()
	r.q.Stop()
	r.SetAvailIndex(2)
	if c, err := r.q.TryNext(); c != nil || !errors.Is(err, virtio.ErrStopped) {
		t.Errorf("stopped: %v, %v", c, err)
	}
	if c, err := r.q.Next(); c != nil || !errors.Is(err, virtio.ErrStopped) {
		t.Errorf("stopped: %v, %v", c, err)
	}
	<-r.q.Stopped()
}

// TestDone uses requests in another order than they came in, and wrongly.
func TestDone(t *testing.T) {
	r := newRaw(t, 0)
	for i := range uint16(4) {
		r.SetDesc(int(i), desc{0x5000, 100, write, 0})
		r.SetHead(i, 3-i)
	}
	r.SetAvailIndex(4)
	var chains []*virtio.Chain
	for range 4 {
		c, err := r.q.Next()
		if err != nil {
			t.Fatal(err)
		}
		chains = append(chains, c)
	}
	if err := r.q.Done(chains[0], 101); err == nil {
		t.Error("more bytes written than there is room for")
	}
	chains[1].Writable = nil // the device has cut it
	for n, i := range []int{2, 0, 3, 1} {
		if err := r.q.Done(chains[i], uint32(10*n)); err != nil {
			t.Fatal(err)
		}
		if id, written := r.UsedElem(uint16(n)); id != uint32(3-i) || written != uint32(10*n) || r.UsedIndex() != uint16(n+1) {
			t.Errorf("element %d: request %d, %d bytes; used index %d", n, id, written, r.UsedIndex())
		}
	}
	if err := r.q.Done(chains[0], 0); err == nil {
		t.Error("a request is done twice")
	}
	r.SetAvailIndex(5)
	c, err := r.q.Next()
	if err != nil {
		t.Fatal(err)
	}
	r.q.Stop()
	if err := r.q.Done(c, 1); !errors.Is(err, virtio.ErrStopped) || r.UsedIndex() != 4 {
		t.Errorf("Done after Stop: %v, used index %d", err, r.UsedIndex())
	}
}

// TestInterrupts has drivers that want an interrupt for some requests, for more of
// them than an index counts.
func TestInterrupts(t *testing.T) {
	const requests = 1<<16 + 100
	// rounds makes requests, of which before may change what the driver wants. It
	// returns which ones had an interrupt.
	rounds := func(t *testing.T, features uint64, before func(r *raw, i int)) (got []int) {
		r := newRaw(t, features)
		r.SetDesc(0, desc{0x5000, 1, 0, 0})
		for i := range requests {
			before(r, i)
			r.SetAvailIndex(uint16(i + 1))
			c, err := r.q.Next()
			if err == nil {
				err = r.q.Done(c, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.interrupts > 0 {
				got = append(got, i)
			}
			r.interrupts = 0
		}
		return got
	}
	check := func(t *testing.T, got []int, want ...int) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("interrupts for %.200v, want %.200v", fmt.Sprint(got), fmt.Sprint(want))
		}
	}
	t.Run("flags", func(t *testing.T) {
		check(t, rounds(t, 0, func(r *raw, i int) {
			r.SetUsedEvent(uint16(i)) // not negotiated
			r.SetAvailFlags(1)
			if i%20000 == 5 {
				r.SetAvailFlags(0xfffe)
			}
		}), 5, 20005, 40005, 60005)
	})
	t.Run("event index", func(t *testing.T) {
		check(t, rounds(t, virtio.EventIdx, func(r *raw, i int) {
			r.SetAvailFlags(1) // ignored
			switch i {
			case 0:
				r.SetUsedEvent(3)
			case 10:
				r.SetUsedEvent(9) // too late
			case 20:
				r.SetUsedEvent(20)
			case 30:
				r.SetUsedEvent(0xffff)
			case 1 << 16:
				r.SetUsedEvent(50)
			}
		}), 3, 20, 0xffff, 1<<16+50)
	})
	t.Run("never changes", func(t *testing.T) {
		check(t, rounds(t, virtio.EventIdx, func(*raw, int) {}), 0, 1<<16)
	})
}

// TestAvailEvent holds that the device asks for a kick when it waits, and only then.
func TestAvailEvent(t *testing.T) {
	r := newRaw(t, virtio.EventIdx)
	r.SetDesc(0, desc{0x5000, 1, 0, 0})
	take := func() {
		t.Helper()
		c, err := r.q.Next()
		if err == nil {
			err = r.q.Done(c, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const batch = 5
	for i := 0; i < 1<<16+100; i += batch {
		r.SetAvailIndex(uint16(i + batch))
		for range batch {
			take()
			if e := r.AvailEvent(); e != 0 {
				t.Fatalf("avail_event is %d while there are requests", e)
			}
		}
	}
	index := r.UsedIndex()
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		take()
	}()
	eventually(t, func() bool { return r.AvailEvent() == index })
	r.SetAvailIndex(index + 1)
	r.q.Wake() // the kick
	<-waiting
}
