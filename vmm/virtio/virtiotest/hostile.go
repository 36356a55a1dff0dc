package virtiotest

import (
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"offmap/memory"
	"offmap/vmm/virtio"
)

// RAM of a hostile driver: there are holes after both regions.
const (
	hostileLow  = 1 << 20 // bytes from 0 on
	hostileHigh = memory.GPA(0x10_0000_0000)
	hostileSize = 1 << 20

	maxScript = 400 // bytes that Hostile looks at
)

// Hostile is a driver that does what script says: it writes descriptors, heads, indexes
// and buffers, makes good requests, notifies and resets. It is for fuzz targets. It
// fails the test if the device doesn't stop at a reset within Limit. It doesn't close
// the device.
//
// Each step is a byte for what to do, one for the queue, and more for the details. What
// is missing at the end of the script is zero.
func Hostile(t testing.TB, dev virtio.Device, script []byte) {
	t.Helper()
	layout, err := memory.LayoutOf(memory.Region{Start: 0, Size: hostileLow}, memory.Region{Start: hostileHigh, Size: hostileSize})
	if err != nil {
		t.Fatal(err)
	}
	ram, err := memory.New(memory.Anon, layout)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostile{t: t, dev: dev, ram: ram, script: script[:min(len(script), maxScript)]}
	for range dev.QueueSizes() {
		k, err := virtio.NewKick()
		if err != nil {
			t.Fatal(err)
		}
		h.kicks = append(h.kicks, k)
	}
	h.start()
	for len(h.script) > 0 {
		h.step()
	}
	h.settle()
	h.stop()
	for _, k := range h.kicks {
		err = errors.Join(err, k.Close())
	}
	if err := errors.Join(err, ram.Close()); err != nil {
		t.Fatal(err)
	}
}

type hostile struct {
	t      testing.TB
	dev    virtio.Device
	ram    *memory.RAM
	script []byte
	kicks  []*virtio.Kick
	rings  []*Ring
	queues []*virtio.Queue
	avail  []uint16
	stuck  bool
	serve  sync.WaitGroup

	without uint64 // features that aren't negotiated
}

// start sets up every queue, with rings in the low region.
func (h *hostile) start() {
	h.stuck = false
	h.rings, h.queues, h.avail = nil, nil, make([]uint16, len(h.kicks))
	var at memory.GPA
	for i, size := range h.dev.QueueSizes() {
		r := NewRing(h.t, h.ram, size, at, memory.Range{GPA: hostileHigh, Size: hostileSize})
		at += memory.GPA(RingSize(size))
		q, err := virtio.NewQueue(h.ram, r.Rings, size, h.features(), h.kicks[i], func() {})
		if err != nil {
			h.t.Fatal(err)
		}
		h.rings, h.queues = append(h.rings, r), append(h.queues, q)
		h.serve.Go(func() { _ = h.dev.Serve(i, q, h.features()) })
	}
}

func (h *hostile) features() uint64 {
	return h.dev.Features() | (virtio.IndirectDesc|virtio.EventIdx)&^h.without | virtio.Version1
}

func (h *hostile) stop() {
	h.t.Helper()
	for _, q := range h.queues {
		q.Stop()
	}
	stopped := make(chan struct{})
	go func() {
		h.serve.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(Limit):
		h.t.Fatal("the device doesn't stop at a reset")
	}
}

// settle gives the device a moment for what it can do. If it didn't do all that once,
// it may be broken, or wait for something, and gets no more of them.
func (h *hostile) settle() {
	for try := 0; !h.stuck; try++ {
		busy := false
		for i, r := range h.rings {
			busy = busy || r.UsedIndex() != h.avail[i]
		}
		if !busy {
			return
		}
		h.stuck = try == 20
		time.Sleep(10 * time.Microsecond)
	}
}

// take returns the next n bytes of the script.
func (h *hostile) take(n int) []byte {
	b := make([]byte, n)
	h.script = h.script[copy(b, h.script):]
	return b
}

func (h *hostile) byte() byte     { return h.take(1)[0] }
func (h *hostile) uint16() uint16 { return binary.LittleEndian.Uint16(h.take(2)) }

// address returns an address in one of the regions, at its end, or anywhere.
func (h *hostile) address() memory.GPA {
	b := h.take(3)
	off := memory.GPA(binary.LittleEndian.Uint16(b[1:]))
	switch b[0] % 5 {
	case 0:
		return off
	case 1:
		return hostileHigh + off
	case 2:
		return hostileLow - off%64
	case 3:
		return hostileHigh + hostileSize - off%64
	}
	return memory.GPA(binary.LittleEndian.Uint64(h.take(8)))
}

func (h *hostile) length() uint32 {
	b := h.take(3)
	return uint32(binary.LittleEndian.Uint16(b[1:])) << (b[0] % 18)
}

func (h *hostile) step() {
	op := h.byte() % 8
	i := int(h.byte()) % len(h.rings)
	r := h.rings[i]
	switch op {
	case 0:
		r.SetDesc(int(h.uint16())%r.Size, Desc{GPA: h.address(), Len: h.length(), Flags: uint16(h.byte()), Next: h.uint16()})
	case 1:
		p := h.take(int(h.byte()))
		if gpa := h.address(); h.ram.Layout().Contains(gpa, uint64(len(p))) {
			r.Put(gpa, p)
		}
	case 2:
		r.SetHead(h.uint16(), h.uint16())
	case 3:
		h.avail[i] += h.uint16()
		r.SetAvailIndex(h.avail[i])
		h.kicks[i].Signal()
	case 4, 5:
		h.request(i)
	case 6:
		r.SetUsedEvent(h.uint16())
		h.kicks[i].Signal()
		h.settle()
	case 7:
		h.stop()
		h.without = uint64(h.byte()) << 28 // VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX
		h.start()
	}
}

// request makes a request of up to 255 bytes to read, which the script has, and one
// piece to write.
func (h *hostile) request(i int) {
	r := h.rings[i]
	const gap = 1 << 16
	data := h.take(int(h.byte()))
	n := h.length()
	at := hostileHigh + memory.GPA(h.byte())*256
	var table []Desc
	if len(data) > 0 {
		r.Put(at, data)
		table = append(table, Desc{GPA: at, Len: uint32(len(data))})
	}
	if n > 0 {
		table = append(table, Desc{GPA: at + gap, Len: n, Flags: Write})
	}
	head := int(h.avail[i]) * 2 % r.Size
	for k, d := range table {
		if k < len(table)-1 {
			d.Flags, d.Next = d.Flags|Next, uint16((head+k+1)%r.Size)
		}
		r.SetDesc((head+k)%r.Size, d)
	}
	r.SetHead(h.avail[i], uint16(head))
	h.avail[i]++
	r.SetAvailIndex(h.avail[i])
	h.kicks[i].Signal()
	h.settle()
}
