package virtiotest

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"offmap/memory"
	"offmap/vmm/virtio"
)

// Flags of descriptors, virtio 1.2 §2.7.5.
const (
	Next     = 1
	Write    = 2
	Indirect = 4
)

// Desc is a descriptor.
type Desc struct {
	GPA         memory.GPA
	Len         uint32
	Flags, Next uint16
}

// Bytes returns a descriptor as it is in guest RAM.
func (d Desc) Bytes() []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(d.GPA))
	b = binary.LittleEndian.AppendUint32(b, d.Len)
	b = binary.LittleEndian.AppendUint16(b, d.Flags)
	return binary.LittleEndian.AppendUint16(b, d.Next)
}

// Ring is the driver's side of a virtqueue. Send and Wait are a well-behaved
// driver's. The other methods write what they are told to.
type Ring struct {
	virtio.Rings
	// Notify tells the device that there are requests.
	Notify func()
	// Features are what the driver has accepted: EventIdx and IndirectDesc matter.
	Features uint64

	t testing.TB
	g memory.Guest

	mu       sync.Mutex
	changed  sync.Cond
	used     uint16 // next element of the used ring to read
	avail    uint16
	free     []uint16 // descriptors
	requests map[uint16]*Request
	sent     int
	stopped  bool

	area memory.Range // RAM for buffers
	at   uint32
}

// Request is a request in flight.
type Request struct {
	ring     *Ring
	descs    []uint16
	writable memory.Ranges
	written  uint32
	done     bool
}

// RingSize returns how many bytes of RAM NewRing needs for the rings.
func RingSize(size int) uint64 { return uint64(16*size+6+2*size+2+6+8*size+4095) &^ 4095 }

// NewRing makes a ring of size descriptors at gpa, and buffers in area, which both
// are RAM of g and zero.
func NewRing(t testing.TB, g memory.Guest, size int, gpa memory.GPA, area memory.Range) *Ring {
	r := &Ring{
		t: t, g: g, area: area, Notify: func() {},
		Rings: virtio.Rings{Size: size, Desc: gpa, Avail: gpa + memory.GPA(16*size), Used: (gpa + memory.GPA(16*size+6+2*size) + 3) &^ 3},
	}
	r.changed.L = &r.mu
	r.Reset()
	return r
}

// Reset forgets all requests, and zeroes the rings.
func (r *Ring) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used, r.avail, r.free, r.requests, r.stopped = 0, 0, nil, map[uint16]*Request{}, false
	for i := range r.Size {
		r.free = append(r.free, uint16(r.Size-1-i))
	}
	r.Put(r.Desc, make([]byte, RingSize(r.Size)))
}

// Stop makes Wait fail from now on.
func (r *Ring) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	r.changed.Broadcast()
}

// Put writes guest RAM.
func (r *Ring) Put(gpa memory.GPA, p []byte) {
	r.t.Helper()
	if _, err := r.g.WriteAt(p, gpa); err != nil {
		r.t.Error(err)
	}
}

// Get reads n bytes of guest RAM.
func (r *Ring) Get(gpa memory.GPA, n int) []byte {
	r.t.Helper()
	p := make([]byte, n)
	if _, err := r.g.ReadAt(p, gpa); err != nil {
		r.t.Error(err)
	}
	return p
}

func (r *Ring) put16(gpa memory.GPA, v uint16) { r.Put(gpa, binary.LittleEndian.AppendUint16(nil, v)) }
func (r *Ring) get16(gpa memory.GPA) uint16    { return binary.LittleEndian.Uint16(r.Get(gpa, 2)) }

// SetDesc writes a descriptor.
func (r *Ring) SetDesc(i int, d Desc) { r.Put(r.Desc+memory.GPA(16*i), d.Bytes()) }

// SetHead writes the entry for avail index i, which is taken modulo the ring's size.
func (r *Ring) SetHead(i, head uint16) {
	r.put16(r.Avail+4+2*memory.GPA(int(i)%r.Size), head)
}

// SetAvailFlags writes the flags of the avail ring.
func (r *Ring) SetAvailFlags(v uint16) { r.put16(r.Avail, v) }

// SetAvailIndex writes the avail index.
func (r *Ring) SetAvailIndex(v uint16) { r.put16(r.Avail+2, v) }

// SetUsedEvent writes used_event.
func (r *Ring) SetUsedEvent(v uint16) { r.put16(r.Avail+4+2*memory.GPA(r.Size), v) }

// AvailEvent reads avail_event.
func (r *Ring) AvailEvent() uint16 { return r.get16(r.Used + 4 + 8*memory.GPA(r.Size)) }

// UsedIndex reads the used index.
func (r *Ring) UsedIndex() uint16 { return r.get16(r.Used + 2) }

// UsedElem reads the element for used index i.
func (r *Ring) UsedElem(i uint16) (id, written uint32) {
	b := r.Get(r.Used+4+8*memory.GPA(int(i)%r.Size), 8)
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
}

// alloc returns n bytes of RAM for a buffer. Buffers don't touch each other.
func (r *Ring) alloc(n int) memory.Range {
	r.t.Helper()
	if len(r.requests) == 0 && r.at > r.area.Size/2 {
		r.at = 0
	}
	p := memory.Range{GPA: r.area.GPA + memory.GPA(r.at), Size: uint32(n)}
	if r.at += uint32(n) + 24; r.at > r.area.Size {
		r.t.Fatalf("no room for a buffer of %d bytes beside %d requests in flight", n, len(r.requests))
	}
	return p
}

// Send makes a request available: readable is what the device reads, writable the
// sizes of what it writes. Every other request with more than one piece is an
// indirect one, if that was negotiated. It waits until there are descriptors.
func (r *Ring) Send(readable [][]byte, writable []int) *Request {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(readable) + len(writable)
	indirect := r.Features&virtio.IndirectDesc != 0 && n > 1 && (r.sent%2 == 1 || n > r.Size)
	r.sent++
	need := n
	if indirect {
		need = 1
	}
	if n == 0 || need > r.Size {
		r.t.Fatalf("a request of %d pieces on a ring of %d", n, r.Size)
	}
	hung := time.AfterFunc(Limit, r.Stop)
	defer hung.Stop()
	for len(r.free) < need && !r.stopped {
		r.changed.Wait()
	}
	q := &Request{ring: r}
	if r.stopped {
		return q
	}
	var table []Desc
	for _, b := range readable {
		p := r.alloc(len(b))
		r.Put(p.GPA, b)
		table = append(table, Desc{GPA: p.GPA, Len: p.Size})
	}
	for _, n := range writable {
		p := r.alloc(n)
		q.writable = append(q.writable, p)
		table = append(table, Desc{GPA: p.GPA, Len: p.Size, Flags: Write})
	}
	if indirect {
		p := r.alloc(16 * n)
		var b []byte
		for i, d := range table {
			if i < n-1 {
				d.Flags, d.Next = d.Flags|Next, uint16(i+1)
			}
			b = append(b, d.Bytes()...)
		}
		r.Put(p.GPA, b)
		table = []Desc{{GPA: p.GPA, Len: p.Size, Flags: Indirect}}
	}
	for range table {
		q.descs = append(q.descs, r.free[len(r.free)-1])
		r.free = r.free[:len(r.free)-1]
	}
	for i, d := range table {
		if i < len(table)-1 {
			d.Flags, d.Next = d.Flags|Next, q.descs[i+1]
		}
		r.SetDesc(int(q.descs[i]), d)
	}
	r.requests[q.descs[0]] = q
	r.SetHead(r.avail, q.descs[0])
	old := r.avail
	r.avail++
	r.SetAvailIndex(r.avail)
	fence()
	if r.Features&virtio.EventIdx == 0 && r.get16(r.Used)&1 == 0 || r.Features&virtio.EventIdx != 0 && r.AvailEvent() == old {
		r.Notify()
	}
	return q
}

// Interrupt takes what the device has used.
func (r *Ring) Interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		index := r.UsedIndex()
		if index == r.used {
			r.SetUsedEvent(r.used)
			fence()
			if r.UsedIndex() == r.used {
				break
			}
			continue
		}
		for ; r.used != index; r.used++ {
			id, written := r.UsedElem(r.used)
			q := r.requests[uint16(id)]
			if id >= uint32(r.Size) || q == nil {
				r.t.Errorf("the device used request %d, which is not in flight", id)
				continue
			}
			if uint64(written) > q.writable.Size() {
				r.t.Errorf("the device says that it wrote %d bytes of %d", written, q.writable.Size())
			}
			q.written, q.done = written, true
			delete(r.requests, uint16(id))
			r.free = append(r.free, q.descs...)
		}
		r.changed.Broadcast()
	}
}

// Done reports whether the device has used the request.
func (q *Request) Done() bool {
	q.ring.mu.Lock()
	defer q.ring.mu.Unlock()
	return q.done
}

// Wait waits until the device has used the request, and returns how many bytes it
// has written, and the whole writable buffers. ok is false if the device was reset
// before, or does nothing for as long as Limit.
func (q *Request) Wait() (written uint32, out [][]byte, ok bool) {
	r := q.ring
	hung := time.AfterFunc(Limit, r.Stop)
	defer hung.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !q.done && !r.stopped {
		r.changed.Wait()
	}
	for _, p := range q.writable {
		out = append(out, r.Get(p.GPA, int(p.Size)))
	}
	return q.written, out, q.done
}
