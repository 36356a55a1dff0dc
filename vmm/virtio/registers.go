package virtio

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"offmap/vmm/bus"
)

// Where registers are in the BAR. Notifications have a page of their own.
const (
	commonRegs = 0
	isrRegs    = 0x80
	configRegs = 0x100
	notifyRegs = 0x1000
	notifyStep = 4 // bytes for each queue

	commonSize = 56 // of struct virtio_pci_common_cfg without the fields of features that aren't offered
)

// Types of virtio's vendor-specific capabilities, §4.1.4.
const (
	capVendor = 0x09 // PCI_CAP_ID_VNDR
	capCommon = 1    // VIRTIO_PCI_CAP_COMMON_CFG
	capNotify = 2    // VIRTIO_PCI_CAP_NOTIFY_CFG
	capISR    = 3    // VIRTIO_PCI_CAP_ISR_CFG
	capDevice = 4    // VIRTIO_PCI_CAP_DEVICE_CFG
	capPCI    = 5    // VIRTIO_PCI_CAP_PCI_CFG
)

// capability returns struct virtio_pci_cap from its third byte on, and more.
func capability(kind byte, off, size uint32, more []byte) []byte {
	b := []byte{byte(16 + len(more)), kind, 0 /* BAR */, 0, 0, 0}
	b = binary.LittleEndian.AppendUint32(b, off)
	b = binary.LittleEndian.AppendUint32(b, size)
	return append(b, more...)
}

// common is the common configuration structure, §4.1.4.3.
type common struct{ t *Transport }

// register is a register of the common configuration. Accesses of any size and offset
// are made of reads and writes of whole registers.
type register struct {
	off, size int
	read      func(*Transport) uint64
	write     func(*Transport, uint64) // nil: read-only
}

var registers = []register{
	{0x00, 4, func(t *Transport) uint64 { return uint64(t.deviceSelect) }, func(t *Transport, v uint64) { t.deviceSelect = uint32(v) }},
	{0x04, 4, func(t *Transport) uint64 { return half(t.offered, t.deviceSelect) }, nil},
	{0x08, 4, func(t *Transport) uint64 { return uint64(t.driverSelect) }, func(t *Transport, v uint64) { t.driverSelect = uint32(v) }},
	{0x0c, 4, func(t *Transport) uint64 { return half(t.features, t.driverSelect) }, (*Transport).setFeatures},
	{0x10, 2, func(t *Transport) uint64 { return uint64(t.vector.Load()) }, func(t *Transport, v uint64) { t.setVector(&t.vector, v) }},
	{0x12, 2, func(t *Transport) uint64 { return uint64(len(t.queues)) }, nil},
	{0x14, 1, func(t *Transport) uint64 { return uint64(t.status) }, func(t *Transport, v uint64) { t.setStatus(byte(v)) }},
	{0x15, 1, func(*Transport) uint64 { return 0 }, nil}, // config_generation: it never changes
	{0x16, 2, func(t *Transport) uint64 { return uint64(t.queueSelect) }, func(t *Transport, v uint64) { t.queueSelect = uint16(v) }},
	{0x18, 2, ofQueue(func(q *queueState) uint64 { return uint64(q.size) }), toQueue(func(q *queueState, v uint64) {
		if v > 0 && v <= uint64(q.max) && v&(v-1) == 0 {
			q.size = uint16(v)
		}
	})},
	{0x1a, 2, ofQueue(func(q *queueState) uint64 { return uint64(q.vector.Load()) }), func(t *Transport, v uint64) {
		if q := t.selected(); q != nil {
			t.setVector(&q.vector, v)
		}
	}},
	{0x1c, 2, ofQueue(func(q *queueState) uint64 {
		if q.enabled {
			return 1
		}
		return 0
	}), (*Transport).enable},
	{0x1e, 2, func(t *Transport) uint64 { // queue_notify_off
		if t.selected() == nil {
			return 0
		}
		return uint64(t.queueSelect)
	}, nil},
	ring(0x20, 0), ring(0x28, 1), ring(0x30, 2),
}

// ring is the register for the address of a part of the virtqueue.
func ring(off, part int) register {
	return register{off, 8, ofQueue(func(q *queueState) uint64 { return q.rings[part] }),
		toQueue(func(q *queueState, v uint64) { q.rings[part] = v })}
}

// ofQueue reads from the queue that is selected, or 0 if there is no such queue.
func ofQueue(read func(*queueState) uint64) func(*Transport) uint64 {
	return func(t *Transport) uint64 {
		if q := t.selected(); q != nil {
			return read(q)
		}
		return 0
	}
}

// toQueue writes to the queue that is selected, unless it is enabled.
func toQueue(write func(*queueState, uint64)) func(*Transport, uint64) {
	return func(t *Transport, v uint64) {
		if q := t.selected(); q != nil && !q.enabled {
			write(q, v)
		}
	}
}

// half returns 32 of 64 feature bits.
func half(features uint64, n uint32) uint64 {
	if n > 1 {
		return 0
	}
	return features >> (32 * n) & 0xffffffff
}

// setFeatures is a write of 32 of the driver's feature bits. There are none above 63.
func (t *Transport) setFeatures(v uint64) {
	if n := t.driverSelect; n <= 1 && t.status&statusFeaturesOK == 0 {
		t.features = t.features&^(0xffffffff<<(32*n)) | v<<(32*n)
	}
}

func (t *Transport) selected() *queueState {
	if int(t.queueSelect) >= len(t.queues) {
		return nil
	}
	return t.queues[t.queueSelect]
}

// setVector is a write to a vector register. A vector that the device doesn't have
// reads back as none.
func (t *Transport) setVector(r *atomic.Uint32, v uint64) {
	if v > uint64(len(t.queues)) { // as many vectors as queues, and one
		v = noVector
	}
	r.Store(uint32(v))
}

// enable is a write to queue_enable. The queue works from DRIVER_OK on.
func (t *Transport) enable(v uint64) {
	q := t.selected()
	if v != 1 || q == nil || q.enabled || t.status&statusDriverOK != 0 {
		return
	}
	if err := q.where().check(t.guest.Layout()); err != nil {
		t.needsReset(err)
		return
	}
	q.enabled = true
}

// Read implements bus.Device.
func (c common) Read(off uint64, p []byte) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	for _, r := range registers {
		if lo, hi, ok := r.overlap(off, p); ok {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], r.read(c.t))
			copy(p[lo-int(off):], b[lo-r.off:hi-r.off])
		}
	}
}

// Write implements bus.Device. A write of a part of a register leaves the rest as it is.
func (c common) Write(off uint64, p []byte) {
	c.t.mu.Lock()
	defer c.t.unlock()
	for _, r := range registers {
		if c.t.resetting || c.t.closed {
			return
		}
		if lo, hi, ok := r.overlap(off, p); ok && r.write != nil {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], r.read(c.t))
			copy(b[lo-r.off:hi-r.off], p[lo-int(off):])
			r.write(c.t, binary.LittleEndian.Uint64(b[:]))
		}
	}
}

// overlap returns which offsets of the register an access touches.
func (r register) overlap(off uint64, p []byte) (lo, hi int, ok bool) {
	lo, hi = max(r.off, int(off)), min(r.off+r.size, int(off)+len(p))
	return lo, hi, lo < hi
}

// isr is the ISR status, §4.1.4.5. A read clears it.
type isr struct{ t *Transport }

// Read implements bus.Device.
func (i isr) Read(_ uint64, p []byte) { p[0] = byte(i.t.isr.Swap(0)) }

// Write implements bus.Device.
func (isr) Write(uint64, []byte) {}

// config is the device's configuration space.
type config struct{ t *Transport }

// Read implements bus.Device.
func (c config) Read(off uint64, p []byte) { copy(p, c.t.dev.Config()[off:]) }

// Write implements bus.Device.
func (config) Write(uint64, []byte) {}

// notify has a register for each queue, to kick it (§4.1.4.4). KVM takes most writes
// by itself.
type notify struct{ t *Transport }

// Read implements bus.Device.
func (notify) Read(_ uint64, p []byte) { clear(p) }

// Write implements bus.Device.
func (n notify) Write(off uint64, _ []byte) {
	n.t.mu.Lock()
	defer n.t.mu.Unlock()
	if i := int(off / notifyStep); i < len(n.t.queues) && !n.t.closed {
		n.t.queues[i].kick.Signal()
	}
}

// window is the body of VIRTIO_PCI_CAP_PCI_CFG, §4.1.4.9: a way to the registers in
// the BAR for who can only access configuration space. The driver writes where to
// (bar, offset, length), and then accesses the data at the end.
type window struct {
	mu   sync.Mutex
	regs *bus.Bus
	cap  [18]byte
}

// Offsets in the capability's body.
const (
	windowBAR    = 2
	windowOffset = 6
	windowLength = 10
	windowData   = 14
)

func (w *window) init(regs *bus.Bus) {
	w.regs = regs
	copy(w.cap[:], capability(capPCI, 0, 0, make([]byte, 4)))
}

// access makes the access to the BAR that an access to the data asks for. It must be
// of as many bytes as the length says.
func (w *window) access(off uint64, p []byte, access func(*bus.Bus, uint64, []byte)) {
	le := binary.LittleEndian
	n := le.Uint32(w.cap[windowLength:])
	at := le.Uint32(w.cap[windowOffset:])
	if off == windowData && (n == 1 || n == 2 || n == 4) && at%n == 0 && w.cap[windowBAR] == 0 && len(p) >= int(n) {
		access(w.regs, uint64(at), p[:n])
	}
}

// Read implements bus.Device.
func (w *window) Read(off uint64, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copy(p, w.cap[off:])
	w.access(off, p, (*bus.Bus).Read)
}

// Write implements bus.Device.
func (w *window) Write(off uint64, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, v := range p {
		if at := off + uint64(i); at == windowBAR || at >= windowOffset {
			w.cap[at] = v
		}
	}
	w.access(off, p, (*bus.Bus).Write)
}
