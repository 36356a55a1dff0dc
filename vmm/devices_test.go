package vmm

import (
	"encoding/binary"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/memory/memtest"
	"offmap/vmm/boot"
	"offmap/vmm/pci"
	"offmap/vmm/virtio"
)

// TestKick holds that writes of any size to a watched address are counted by the
// eventfd and don't end KVM_RUN, until the watch is removed.
func TestKick(t *testing.T) {
	needKVM(t)
	defer memtest.Leaks(t)()
	const at memory.GPA = 33 << 20 // no RAM, but in the page tables
	store := func(op ...byte) []byte { return binary.LittleEndian.AppendUint64(op, uint64(at)) }
	code := store(0xa2)                       // mov [at], al
	code = append(code, store(0x66, 0xa3)...) // mov [at], ax
	code = append(code, store(0xa3)...)       // mov [at], eax
	code = append(code, store(0x48, 0xa3)...) // mov [at], rax
	code = append(code, 0x66, 0xba)           // mov dx, ExitPort
	code = append(code, protocol.ExitPort&0xff, protocol.ExitPort>>8)
	code = append(code, 0x30, 0xc0, 0xee) // xor al, al; out dx, al
	for _, removed := range []bool{false, true} {
		cfg := payloadConfig(t, "hello", 1, 33<<20)
		cfg.Guest = boot.PayloadLoader(code, boot.PayloadConfig{Ring: 3})
		m, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		remove, err := m.pci.VM().IOEventFD(at, fd)
		if err != nil {
			t.Fatal(err)
		}
		wantKicks, wantExits := uint64(4), uint64(0)
		if removed {
			if err := remove(); err != nil {
				t.Fatal(err)
			}
			wantKicks, wantExits = 0, 4
		}
		r, err := m.Run(t.Context())
		if err != nil || r.Outcome.Reason != PowerOff {
			t.Fatalf("%+v, %v", r, err)
		}
		var count [8]byte
		if _, err := unix.Read(fd, count[:]); err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		if kicks := binary.LittleEndian.Uint64(count[:]); kicks != wantKicks || r.Exits["mmio"] != wantExits {
			t.Errorf("removed %t: %d kicks, %d exits", removed, kicks, r.Exits["mmio"])
		}
	}
}

// probe is a device that touches guest RAM for as long as it may.
type probe struct {
	served, stopped atomic.Bool
	err             error // of its last access
	closed          int
	closedFirst     bool // before it had stopped
	wait            chan struct{}
}

func (*probe) Name() string          { return "probe" }
func (*probe) ID() uint16            { return 4 }
func (*probe) Features() uint64      { return 0 }
func (*probe) QueueSizes() []int     { return []int{8} }
func (*probe) Config() []byte        { return nil }
func (p *probe) Stats() virtio.Stats { return virtio.Stats{ReadBytes: 7, Exposed: 1, ExposedPeak: 5} }
func (p *probe) Close() error {
	p.closed++
	p.closedFirst = p.served.Load() && !p.stopped.Load()
	return nil
}

func (p *probe) Serve(_ int, q *virtio.Queue, _ uint64) error {
	p.served.Store(true)
	close(p.wait)
	<-q.Stopped()
	var b [8]byte
	for range 1000 { // all that it does before it notices
		if _, err := q.Guest().WriteAt(b[:], 32<<20-8); err != nil {
			p.err = err
		}
		runtime.Gosched()
	}
	p.stopped.Store(true)
	return nil
}

// start does to device 1 of the machine what a driver does, up to DRIVER_OK.
func start(t *testing.T, m *Machine) {
	t.Helper()
	le := binary.LittleEndian
	config := func(reg int, write []byte) uint32 {
		m.ports.Write(pci.ConfigPort, le.AppendUint32(nil, 1<<31|1<<11|uint32(reg)))
		if write != nil {
			m.ports.Write(pci.ConfigPort+4, write)
		}
		b := make([]byte, 4)
		m.ports.Read(pci.ConfigPort+4, b)
		return le.Uint32(b)
	}
	config(0x04, []byte{6, 0}) // memory, bus master
	at := int(config(0x34, nil) & 0xff)
	for ; at != 0; at = int(config(at, nil) >> 8 & 0xff) {
		if v := config(at, nil); v&0xff == 9 && v>>24 == 1 { // common configuration
			break
		}
	}
	common := uint64(config(0x10, nil)&^15) + uint64(config(at+8, nil))
	for _, w := range []struct {
		reg   uint64
		value []byte
	}{
		{0x14, []byte{1}}, {0x14, []byte{3}}, // ACKNOWLEDGE, DRIVER
		{0x08, []byte{1, 0, 0, 0}}, {0x0c, []byte{1, 0, 0, 0}}, // VIRTIO_F_VERSION_1
		{0x14, []byte{11}}, // FEATURES_OK
		{0x20, []byte{0, 0x10, 0, 0}}, {0x28, []byte{0, 0x20, 0, 0}}, {0x30, []byte{0, 0x30, 0, 0}},
		{0x1c, []byte{1, 0}}, {0x14, []byte{15}}, // DRIVER_OK
	} {
		m.mmio.Write(common+w.reg, w.value)
	}
}

// TestDevices holds that devices are closed once, whatever becomes of the machine,
// and that they have guest RAM until they have stopped.
func TestDevices(t *testing.T) {
	needKVM(t)
	for _, c := range []struct {
		name    string
		devices int
		run     bool
		change  func(*Config)
		err     string
	}{
		{"run", 2, true, nil, ""},
		{"closed without a run", 1, false, nil, ""},
		{"too many", pci.MaxFunctions + 1, false, nil, "a guest has at most 31 PCI devices"},
		{"no guest", 1, false, func(c *Config) { c.Guest = nil }, "needs a guest"},
		{"no memory", 1, false, func(c *Config) { c.Memory = 1 }, "too small"},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaks := memtest.Leaks(t)
			defer leaks()
			cfg := payloadConfig(t, "hello", 1, 32<<20)
			var probes []*probe
			for range c.devices {
				p := &probe{wait: make(chan struct{})}
				probes, cfg.Devices = append(probes, p), append(cfg.Devices, p)
			}
			if c.change != nil {
				c.change(&cfg)
			}
			m, err := New(cfg)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				start(t, m)
				<-probes[0].wait
			}
			if c.run {
				r, err := m.Run(t.Context())
				if err != nil || len(r.Devices) != c.devices || r.Devices[1].ReadBytes != 7 {
					t.Errorf("%+v, %v", r, err)
				}
				if ram, err := m.attach.Usage(); err != nil || r.Exposed != ram.Exposed+2 || r.ExposedPeak != ram.ExposedPeak+10 {
					t.Errorf("%+v: two devices hold a byte each, and held 5; RAM: %+v, %v", r.Usage, ram, err)
				}
				if probes[0].closed != 1 {
					t.Errorf("closed %d times when the guest had ended", probes[0].closed)
				}
			}
			if m != nil {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
			for i, p := range probes {
				if p.closed != 1 || p.closedFirst || p.err != nil || p.served.Load() != p.stopped.Load() {
					t.Errorf("device %d: closed %d times, before it had stopped: %t; last access: %v", i, p.closed, p.closedFirst, p.err)
				}
			}
		})
	}
}
