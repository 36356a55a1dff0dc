package virtio_test

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"offmap/memory"
	"offmap/vmm/bus"
	"offmap/vmm/pci"
	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

var le = binary.LittleEndian

// Bits of the device status.
const (
	acknowledge = 1
	driver      = 2
	driverOK    = 4
	featuresOK  = 8
	needsReset  = 64
)

// Registers of the common configuration.
const (
	deviceSelect = 0x00
	deviceBits   = 0x04
	driverSelect = 0x08
	driverBits   = 0x0c
	configVector = 0x10
	numQueues    = 0x12
	status       = 0x14
	queueSelect  = 0x16
	queueLen     = 0x18
	queueVector  = 0x1a
	queueEnable  = 0x1c
	notifyOff    = 0x1e
	queueDesc    = 0x20
	queueAvail   = 0x28
	queueUsed    = 0x30
)

// machine is a guest with one virtio device on its PCI bus, and a driver that finds it
// as a guest's does.
type machine struct {
	t      testing.TB
	ram    *memory.RAM
	mem    bus.Bus
	io     bus.Bus
	tr     *virtio.Transport
	closed bool
	// slowLog is called before an error is in the log.
	slowLog func()
	// hostile: the guest has written anything anywhere, and takes no interrupts.
	hostile atomic.Bool
	rings   []*virtiotest.Ring
	bar     uint64
	caps    map[byte]capability

	mu         sync.Mutex
	errs       []error
	changed    sync.Cond
	messages   []uint32
	ioeventfds map[memory.GPA]int
	removed    int
}

// capability is one of virtio's.
type capability struct {
	at        int // in configuration space
	off, size uint32
	more      uint32 // behind struct virtio_pci_cap
}

// SignalMSI implements pci.VM.
func (m *machine) SignalMSI(addr uint64, data uint32) {
	if m.hostile.Load() {
		return
	}
	if addr != 0xfee00000 {
		m.t.Errorf("a message to 0x%x", addr)
	}
	if data > 0 && int(data) <= len(m.rings) {
		m.rings[data-1].Interrupt()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = append(m.messages, data)
	m.changed.Broadcast()
}

// IOEventFD implements pci.VM.
func (m *machine) IOEventFD(addr memory.GPA, fd int) (func() error, error) {
	m.ioeventfds[addr] = fd
	return func() error { m.removed++; return nil }, nil
}

type noReset struct{}

func (noReset) Read(_ uint64, p []byte)  { clear(p) }
func (noReset) Write(_ uint64, p []byte) {}

// newMachine attaches a device, and finds its registers. RAM is 16 MiB at 0 and 32 MiB
// at 1 GiB.
func newMachine(t testing.TB, dev virtio.Device) *machine {
	t.Helper()
	m := &machine{t: t, slowLog: func() {}, ioeventfds: map[memory.GPA]int{}, caps: map[byte]capability{}}
	m.changed.L = &m.mu
	layout, err := memory.LayoutOf(memory.Region{Size: 16 << 20}, memory.Region{Start: 1 << 30, Size: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if m.ram, err = memory.New(memory.Anon, layout); err != nil {
		t.Fatal(err)
	}
	b := pci.NewBus(m, &m.mem)
	if err := m.io.Add("PCI", pci.ConfigPort, pci.ConfigSize, b.Ports(noReset{})); err != nil {
		t.Fatal(err)
	}
	m.tr, err = virtio.Attach(b, m.ram, dev, func(err error) {
		m.slowLog()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.errs = append(m.errs, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	m.find()
	var at memory.GPA
	for i, size := range dev.QueueSizes() {
		r := virtiotest.NewRing(t, m.ram, size, at, memory.Range{GPA: 1<<30 + memory.GPA(i)<<22, Size: 4 << 20})
		r.Notify = func() { m.notify(i) }
		m.rings = append(m.rings, r)
		at += memory.GPA(virtiotest.RingSize(size))
	}
	return m
}

func (m *machine) close() {
	if m.closed {
		return
	}
	m.closed = true
	for _, r := range m.rings {
		r.Stop()
	}
	if err := m.tr.Close(); err != nil {
		m.t.Error(err)
	}
	if m.removed != len(m.ioeventfds) {
		m.t.Errorf("%d of %d eventfds removed", m.removed, len(m.ioeventfds))
	}
	if err := m.ram.Close(); err != nil {
		m.t.Error(err)
	}
}

func (m *machine) config(reg, size int) uint32 {
	m.io.Write(pci.ConfigPort, le.AppendUint32(nil, 1<<31|1<<11|uint32(reg&^3)))
	p := make([]byte, 4)
	m.io.Read(pci.ConfigPort+4+uint64(reg&3), p[:size])
	return le.Uint32(p)
}

func (m *machine) setConfig(reg, size int, v uint32) {
	m.io.Write(pci.ConfigPort, le.AppendUint32(nil, 1<<31|1<<11|uint32(reg&^3)))
	m.io.Write(pci.ConfigPort+4+uint64(reg&3), le.AppendUint32(nil, v)[:size])
}

// find reads the capabilities, and turns MSI-X on: message i is i.
func (m *machine) find() {
	m.t.Helper()
	m.bar = uint64(m.config(0x10, 4) &^ 15)
	m.setConfig(0x04, 2, 6) // memory, bus master
	for at := int(m.config(0x34, 1)); at != 0; at = int(m.config(at+1, 1)) {
		switch m.config(at, 1) {
		case 0x09:
			m.caps[byte(m.config(at+3, 1))] = capability{at, m.config(at+8, 4), m.config(at+12, 4), m.config(at+16, 4)}
		case 0x11:
			table := m.bar + uint64(m.config(at+4, 4))
			for i := range int(m.config(at+2, 2)&0x7ff) + 1 {
				entry := le.AppendUint64(nil, 0xfee00000)
				entry = le.AppendUint32(entry, uint32(i))
				m.mem.Write(table+uint64(16*i), le.AppendUint32(entry, 0))
			}
			m.setConfig(at+2, 2, 1<<15)
		}
	}
}

func (m *machine) get(reg uint64, size int) uint64 {
	p := make([]byte, 8)
	m.mem.Read(m.bar+uint64(m.caps[1].off)+reg, p[:size])
	return le.Uint64(p)
}

func (m *machine) set(reg uint64, size int, v uint64) {
	m.mem.Write(m.bar+uint64(m.caps[1].off)+reg, le.AppendUint64(nil, v)[:size])
}

// notify kicks a queue by the vCPU's own write.
func (m *machine) notify(queue int) {
	m.mem.Write(m.bar+uint64(m.caps[2].off)+uint64(queue)*uint64(m.caps[2].more), le.AppendUint16(nil, uint16(queue)))
}

func (m *machine) features() uint64 {
	m.set(deviceSelect, 4, 0)
	f := m.get(deviceBits, 4)
	m.set(deviceSelect, 4, 1)
	return f | m.get(deviceBits, 4)<<32
}

// negotiate goes as far as FEATURES_OK, and reports whether the device agrees.
func (m *machine) negotiate(features uint64) bool {
	m.set(status, 1, acknowledge)
	m.set(status, 1, acknowledge|driver)
	m.set(driverSelect, 4, 0)
	m.set(driverBits, 4, features)
	m.set(driverSelect, 4, 1)
	m.set(driverBits, 4, features>>32)
	m.set(status, 1, acknowledge|driver|featuresOK)
	return m.get(status, 1)&featuresOK != 0
}

// setUp tells the device where queue i is, and enables it.
func (m *machine) setUp(i int) {
	r := m.rings[i]
	m.set(queueSelect, 2, uint64(i))
	m.set(queueLen, 2, uint64(r.Size))
	m.set(queueDesc, 8, uint64(r.Desc))
	m.set(queueAvail, 4, uint64(r.Avail)) // a guest may write the halves
	m.set(queueAvail+4, 4, uint64(r.Avail)>>32)
	m.set(queueUsed, 8, uint64(r.Used))
	m.set(queueVector, 2, uint64(i+1))
	m.set(queueEnable, 2, 1)
}

// start brings the device to DRIVER_OK with all queues and these features.
func (m *machine) start(features uint64) {
	m.t.Helper()
	features &= m.features()
	if !m.negotiate(features) {
		m.t.Fatal("no FEATURES_OK")
	}
	m.set(configVector, 2, 0)
	for i, r := range m.rings {
		r.Reset()
		r.Features = features
		m.setUp(i)
	}
	m.set(status, 1, acknowledge|driver|featuresOK|driverOK)
}

// await waits until the status is what is wanted.
func (m *machine) await(want func(status uint64) bool) {
	m.t.Helper()
	eventually(m.t, func() bool { return want(m.get(status, 1)) })
}

func (m *machine) reset() {
	m.t.Helper()
	m.set(status, 1, 0)
	m.await(func(s uint64) bool { return s == 0 })
}

// awaitMessage waits for a message, and forgets those before.
func (m *machine) awaitMessage(want uint32) {
	m.t.Helper()
	eventually(m.t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		i := slices.Index(m.messages, want)
		m.messages = m.messages[i+1:]
		return i >= 0
	})
}

// logged returns what is in the log.
func (m *machine) logged() []error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.errs)
}
