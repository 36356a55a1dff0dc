package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"offmap/memory"
	"offmap/vmm/bus"
	"offmap/vmm/pci"
)

// Transport is a virtio device on the PCI bus, virtio 1.2 §4.1: a modern device with
// MSI-X, one vector for its configuration and one for each queue.
type Transport struct {
	dev     Device
	guest   memory.Guest
	log     func(error)
	fn      *pci.Function
	regs    bus.Bus // the registers in the BAR
	offered uint64  // features
	isr     atomic.Uint32
	vector  atomic.Uint32 // of the configuration

	mu sync.Mutex // guards what follows
	// The lock isn't held while a device or a queue waits. It is taken before
	// those of the function.
	idle           sync.Cond // running is 0
	running        int       // Serve calls
	status         byte
	resetting      bool // the driver has asked for a reset, and running isn't 0 yet
	closed         bool
	features       uint64 // of the driver
	deviceSelect   uint32
	driverSelect   uint32
	queueSelect    uint16
	queues         []*queueState
	window         window
	removeNotifies []func() error
	logged         bool
	report         error // for the log, by who unlocks
}

// queueState is what the driver has said of a queue.
type queueState struct {
	max     uint16 // largest size
	kick    *Kick
	vector  atomic.Uint32
	size    uint16
	enabled bool
	rings   [3]uint64 // addresses: descriptor table, avail ring, used ring
	queue   *Queue    // while Serve runs
}

const (
	vendorID  = 0x1af4
	deviceID  = 0x1040 // plus the device's type
	class     = 0xff0000
	noVector  = 0xffff // VIRTIO_MSI_NO_VECTOR
	maxQueues = 64
)

// Bits of the device status, §2.1.
const (
	statusAcknowledge = 1
	statusDriver      = 2
	statusDriverOK    = 4
	statusFeaturesOK  = 8
	statusNeedsReset  = 64
	statusFailed      = 128
)

// Bits of the ISR status, §4.1.4.5.
const (
	isrQueue  = 1
	isrConfig = 2
)

// Attach puts a device on the PCI bus. The transport owns it then, and closes it. log
// gets one error if the device needs a reset because its driver broke the rules.
func Attach(b *pci.Bus, g memory.Guest, dev Device, log func(error)) (*Transport, error) {
	t := &Transport{
		dev: dev, guest: g, log: log,
		offered: dev.Features() | IndirectDesc | EventIdx | Version1,
	}
	t.idle.L = &t.mu
	if err := t.attach(b); err != nil {
		return nil, fmt.Errorf("virtio device %s: %w", dev.Name(), errors.Join(err, t.release()))
	}
	return t, nil
}

func (t *Transport) attach(b *pci.Bus) error {
	for _, n := range t.dev.QueueSizes() {
		if n <= 0 || n > MaxQueueSize || n&(n-1) != 0 {
			return fmt.Errorf("queue of %d descriptors: not a power of two up to %d", n, MaxQueueSize)
		}
		kick, err := NewKick()
		if err != nil {
			return err
		}
		t.queues = append(t.queues, &queueState{max: uint16(n), kick: kick})
	}
	if len(t.queues) > maxQueues {
		return fmt.Errorf("%d queues: at most %d", len(t.queues), maxQueues)
	}
	t.clear()
	caps, size, err := t.layOut()
	if err != nil {
		return err
	}
	t.fn, err = b.Add(pci.Config{
		Name:   "virtio-" + t.dev.Name(),
		Vendor: vendorID, Device: deviceID + t.dev.ID(), SubVendor: vendorID, SubDevice: deviceID + t.dev.ID(),
		Revision: 1, Class: class,
		Capabilities: caps, BAR: &t.regs, BARSize: size, Vectors: 1 + len(t.queues),
	})
	if err != nil {
		return err
	}
	for i, q := range t.queues {
		remove, err := b.VM().IOEventFD(t.fn.BAR()+notifyRegs+memory.GPA(i*notifyStep), q.kick.FD())
		if err != nil {
			return err
		}
		t.removeNotifies = append(t.removeNotifies, remove)
	}
	return nil
}

// Close stops the device as a reset does, waits until no Serve runs, and closes it.
// Registers do nothing afterwards.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.stop()
	for t.running > 0 {
		t.idle.Wait()
	}
	t.mu.Unlock()
	return errors.Join(t.release(), t.dev.Close())
}

func (t *Transport) release() error {
	var errs []error
	for _, remove := range t.removeNotifies {
		errs = append(errs, remove())
	}
	for _, q := range t.queues {
		errs = append(errs, q.kick.Close())
	}
	return errors.Join(errs...)
}

// clear makes the registers as they are after a reset.
func (t *Transport) clear() {
	t.status, t.resetting, t.features = 0, false, 0
	t.deviceSelect, t.driverSelect, t.queueSelect = 0, 0, 0
	t.isr.Store(0)
	t.vector.Store(noVector)
	for _, q := range t.queues {
		q.vector.Store(noVector)
		q.size, q.enabled, q.rings, q.queue = q.max, false, [3]uint64{}, nil
	}
}

// setStatus is the driver's write of the device status (§2.1, §3.1.1).
func (t *Transport) setStatus(v byte) {
	if v == 0 {
		t.reset()
		return
	}
	// A driver doesn't clear bits, and only the device sets NEEDS_RESET.
	added := v &^ t.status
	t.status |= added & (statusAcknowledge | statusDriver | statusFailed)
	if added&statusFeaturesOK != 0 && t.features&^t.offered == 0 && t.features&Version1 != 0 {
		t.status |= statusFeaturesOK
	}
	if added&statusDriverOK != 0 && t.status&statusFeaturesOK != 0 {
		t.status |= statusDriverOK
		t.start()
	}
}

// start serves the queues that the driver has enabled.
func (t *Transport) start() {
	if t.status&statusNeedsReset != 0 {
		return
	}
	for i, s := range t.queues {
		if !s.enabled {
			continue
		}
		q, err := NewQueue(t.guest, s.where(), int(s.max), t.features, s.kick, func() { t.interrupt(&s.vector, isrQueue) })
		if err != nil {
			t.needsReset(fmt.Errorf("queue %d: %w", i, err))
			return
		}
		s.queue = q
	}
	for i, s := range t.queues {
		if s.queue != nil {
			t.running++
			go t.serve(i, s.queue, t.features)
		}
	}
}

func (s *queueState) where() Rings {
	return Rings{Size: int(s.size), Desc: memory.GPA(s.rings[0]), Avail: memory.GPA(s.rings[1]), Used: memory.GPA(s.rings[2])}
}

func (t *Transport) serve(i int, q *Queue, features uint64) {
	err := t.dev.Serve(i, q, features)
	t.mu.Lock()
	defer t.unlock()
	if err != nil && !errors.Is(err, ErrStopped) {
		t.needsReset(fmt.Errorf("queue %d: %w", i, err))
	}
	if t.running--; t.running > 0 {
		return
	}
	t.idle.Broadcast()
	if t.resetting {
		t.clear()
	}
}

// reset begins a reset. The status is 0 once the device has no request any more, and
// until then registers can't be written.
func (t *Transport) reset() {
	t.stop()
	t.resetting = true
	if t.running == 0 {
		t.clear()
	}
}

func (t *Transport) stop() {
	for _, s := range t.queues {
		if s.queue != nil {
			s.queue.Stop()
		}
	}
}

// needsReset stops the device until the driver resets it, and tells the driver (§2.1.2).
func (t *Transport) needsReset(err error) {
	t.stop()
	if t.status&statusNeedsReset != 0 || t.resetting || t.closed {
		return
	}
	t.status |= statusNeedsReset
	if t.status&statusDriverOK != 0 {
		t.interrupt(&t.vector, isrConfig)
	}
	if !t.logged { // once for a device: the guest could reset and break it again for ever
		t.logged = true
		t.report = fmt.Errorf("virtio device %s does nothing until its driver resets it: %w", t.dev.Name(), err)
	}
}

// unlock ends what may have called needsReset. The log may be slow.
func (t *Transport) unlock() {
	err := t.report
	t.report = nil
	t.mu.Unlock()
	if err != nil {
		t.log(err)
	}
}

// interrupt sends the interrupt of a vector register.
func (t *Transport) interrupt(vector *atomic.Uint32, isr uint32) {
	t.isr.Or(isr)
	if v := vector.Load(); v != noVector {
		t.fn.Signal(int(v))
	}
}

// layOut makes the registers of the BAR, and the capabilities that say where they are.
func (t *Transport) layOut() (caps []pci.Capability, size uint64, err error) {
	size = uint64(notifyRegs + notifyStep*max(1, len(t.queues)))
	for _, r := range []struct {
		kind     byte
		name     string
		at, size uint64
		dev      bus.Device
	}{
		{capCommon, "common configuration", commonRegs, commonSize, common{t}},
		{capNotify, "notifications", notifyRegs, size - notifyRegs, notify{t}},
		{capISR, "ISR status", isrRegs, 1, isr{t}},
		{capDevice, "device configuration", configRegs, uint64(len(t.dev.Config())), config{t}},
	} {
		if r.size == 0 {
			continue
		}
		if err := t.regs.Add(r.name, r.at, r.size, r.dev); err != nil {
			return nil, 0, err
		}
		var more []byte
		if r.kind == capNotify {
			more = binary.LittleEndian.AppendUint32(nil, notifyStep)
		}
		caps = append(caps, pci.Capability{ID: capVendor, Body: capability(r.kind, uint32(r.at), uint32(r.size), more)})
	}
	caps = append(caps, pci.Capability{ID: capVendor, Body: capability(capPCI, 0, 0, make([]byte, 4)), Registers: &t.window})
	t.window.init(&t.regs)
	return caps, size, nil
}
