package pci

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"offmap/memory"
	"offmap/vmm/bus"
)

var le = binary.LittleEndian

// message is what a function has sent.
type message struct {
	addr uint64
	data uint32
}

// vm keeps what functions send.
type vm struct{ sent []message }

func (v *vm) SignalMSI(addr uint64, data uint32) { v.sent = append(v.sent, message{addr, data}) }
func (v *vm) IOEventFD(memory.GPA, int) (func() error, error) {
	return func() error { return nil }, nil
}

// ram is a device of plain memory, which fails the test if an access leaves it.
type ram struct {
	t *testing.T
	b []byte
}

func (r *ram) check(off uint64, p []byte) {
	if len(p) == 0 || off >= uint64(len(r.b)) || uint64(len(p)) > uint64(len(r.b))-off {
		r.t.Errorf("access of %d bytes at offset %d of %d", len(p), off, len(r.b))
	}
}
func (r *ram) Read(off uint64, p []byte)  { r.check(off, p); copy(p, r.b[off:]) }
func (r *ram) Write(off uint64, p []byte) { r.check(off, p); copy(r.b[off:], p) }

// machine is a bus, and the guest's two address spaces.
type machine struct {
	vm
	mem, io bus.Bus
	bus     *Bus
	resets  int
}

type resetRegister struct{ m *machine }

func (r resetRegister) Read(_ uint64, p []byte)  { clear(p) }
func (r resetRegister) Write(_ uint64, p []byte) { r.m.resets++ }

func newMachine(t testing.TB) *machine {
	m := &machine{}
	m.bus = NewBus(m, &m.mem)
	if err := m.io.Add("PCI", ConfigPort, ConfigSize, m.bus.Ports(resetRegister{m})); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) out(port uint64, size int, v uint32) {
	m.io.Write(port, le.AppendUint32(nil, v)[:size])
}
func (m *machine) in(port uint64, size int) uint32 {
	var p [4]byte
	m.io.Read(port, p[:size])
	return le.Uint32(p[:])
}

func address(dev, reg int) uint32 { return addressEnable | uint32(dev)<<11 | uint32(reg&^3) }

// config reads size bytes at reg as a guest does, setConfig writes them.
func (m *machine) config(dev, reg, size int) uint32 {
	m.out(ConfigPort, 4, address(dev, reg))
	return m.in(ConfigPort+dataPort+uint64(reg&3), size)
}

func (m *machine) setConfig(dev, reg, size int, v uint32) {
	m.out(ConfigPort, 4, address(dev, reg))
	m.out(ConfigPort+dataPort+uint64(reg&3), size, v)
}

// capabilities walks the list of a device.
func (m *machine) capabilities(t testing.TB, dev int) map[uint32][]int {
	found := map[uint32][]int{}
	if m.config(dev, regStatus, 2)&statusHasCaps == 0 {
		return found
	}
	at := int(m.config(dev, regCapabilities, 1))
	for n := 0; at != 0; n++ {
		if n == configSpace/4 || at < headerEnd || at%4 != 0 {
			t.Fatalf("capability list is broken at 0x%x", at)
		}
		id := m.config(dev, at, 1)
		found[id] = append(found[id], at)
		at = int(m.config(dev, at+1, 1))
	}
	return found
}

func testConfig(t *testing.T) Config {
	return Config{
		Name: "test", Vendor: 0x1af4, Device: 0x1044, SubVendor: 0x1af4, SubDevice: 0x40, Revision: 1, Class: 0xff0012,
		BAR: &ram{t, make([]byte, 0x1800)}, BARSize: 0x1800, Vectors: 3,
		Capabilities: []Capability{{ID: 9, Body: []byte{5, 1, 2}}, {ID: 9, Body: make([]byte, 6), Registers: &ram{t, make([]byte, 6)}}},
	}
}

// TestHostBridge holds what Linux asks for before it believes in mechanism #1
// (pci_check_type1 and pci_sanity_check, arch/x86/pci/direct.c).
func TestHostBridge(t *testing.T) {
	m := newMachine(t)
	m.out(0xcfb, 1, 1)
	m.out(ConfigPort, 4, 0x80000000)
	if got := m.in(ConfigPort, 4); got != 0x80000000 {
		t.Errorf("CONFIG_ADDRESS reads 0x%x", got)
	}
	if got := m.config(0, regClass+1, 2); got != 0x0600 {
		t.Errorf("class 0x%x: not a host bridge", got)
	}
	if got := m.config(0, regBAR, 4); got != 0 {
		t.Errorf("the bridge has a BAR: 0x%x", got)
	}
	m.setConfig(0, regBAR, 4, 0xffffffff)
	if got := m.config(0, regBAR, 4); got != 0 {
		t.Errorf("the bridge has a BAR of size -0x%x", got)
	}
}

func TestPorts(t *testing.T) {
	m := newMachine(t)
	if _, err := m.bus.Add(testConfig(t)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		address uint32
		off     uint64
		size    int
		want    uint32
	}{
		{"vendor and device", address(1, 0), 4, 4, 0x10441af4},
		{"device alone", address(1, 0), 6, 2, 0x1044},
		{"one byte", address(1, 0), 7, 1, 0x10},
		{"two in the middle", address(1, 0), 5, 2, 0x441a},
		{"low bits of the address don't count", address(1, 0) | 3, 4, 4, 0x10441af4},
		{"not enabled", address(1, 0) &^ addressEnable, 4, 4, 0xffffffff},
		{"no device", address(2, 0), 4, 4, 0xffffffff},
		{"last device", address(31, 0), 4, 4, 0xffffffff},
		{"function 1", address(1, 0) | 1<<8, 4, 4, 0xffffffff},
		{"bus 1", address(1, 0) | 1<<16, 4, 4, 0xffffffff},
		{"extended register", address(1, 0) | 1<<24, 4, 4, 0xffffffff},
		{"end of configuration space", address(1, 0xfc), 4, 4, 0},
		{"address, then data", address(1, 0), 2, 4, 0xffffffff},
		{"part of the address", address(1, 0), 0, 2, 0xffff},
		{"reset register", address(1, 0), 1, 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m.out(ConfigPort, 4, tt.address)
			if got := m.in(ConfigPort+tt.off, tt.size); got != tt.want {
				t.Errorf("reads 0x%x, want 0x%x", got, tt.want)
			}
		})
	}
	// Neither of these is a write to CONFIG_ADDRESS, and only one to the reset register.
	m.out(ConfigPort, 4, address(1, 0))
	for off := range uint64(4) {
		m.out(ConfigPort+off, 1, 6)
	}
	m.out(ConfigPort, 2, 6)
	m.out(ConfigPort+1, 2, 6)
	if got := m.in(ConfigPort, 4); got != address(1, 0) || m.resets != 1 {
		t.Errorf("CONFIG_ADDRESS 0x%x, %d resets", got, m.resets)
	}
}

func TestHeader(t *testing.T) {
	m := newMachine(t)
	c := testConfig(t)
	if _, err := m.bus.Add(c); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name           string
		reg, size      int
		want, writable uint32
	}{
		{"IDs", 0, 4, 0x10441af4, 0},
		{"command and status", 4, 4, 0x00100000, 0x406},
		{"class and revision", 8, 4, 0xff001201, 0},
		{"header type", 12, 4, 0, 0},
		{"subsystem", 0x2c, 4, 0x00401af4, 0},
		{"BAR 1", 0x14, 4, 0, 0},
		{"ROM", 0x30, 4, 0, 0},
		{"interrupt line, no pin", 0x3c, 4, 0, 0xff},
		{"capability", 0x40, 4, 0x01054809, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range []uint32{0, 0xffffffff, 0} {
				if got, want := m.config(1, tt.reg, tt.size), tt.want; got != want {
					t.Errorf("0x%x, want 0x%x", got, want)
				}
				m.setConfig(1, tt.reg, tt.size, v)
				if got, want := m.config(1, tt.reg, tt.size), tt.want|tt.writable&v; got != want {
					t.Errorf("0x%x after 0x%x, want 0x%x", got, v, want)
				}
				m.setConfig(1, tt.reg, tt.size, 0)
			}
		})
	}
}

// TestCapabilities holds that a device's registers in a capability see accesses to
// the body, and nothing else of them.
func TestCapabilities(t *testing.T) {
	m := newMachine(t)
	c := testConfig(t)
	if _, err := m.bus.Add(c); err != nil {
		t.Fatal(err)
	}
	caps := m.capabilities(t, 1)
	if want := fmt.Sprint(map[uint32][]int{9: {0x40, 0x48}, 0x11: {0x50}}); fmt.Sprint(caps) != want {
		t.Fatalf("capabilities %v, want %v", caps, want)
	}
	m.setConfig(1, 0x48, 4, 0x22114433) // ID and pointer, then the first two bytes
	m.setConfig(1, 0x4c, 4, 0x66554433)
	if got, want := c.Capabilities[1].Registers.(*ram).b, []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}; !bytes.Equal(got, want) {
		t.Errorf("registers % x, want % x", got, want)
	}
	if got := m.config(1, 0x48, 4); got != 0x22115009 {
		t.Errorf("reads 0x%x", got)
	}
	if got := m.config(1, 0x4d, 1); got != 0x44 {
		t.Errorf("reads 0x%x", got)
	}
}

// TestBAR holds that a guest can size a BAR, not move it, and turn it off.
func TestBAR(t *testing.T) {
	m := newMachine(t)
	c := testConfig(t)
	f, err := m.bus.Add(c)
	if err != nil {
		t.Fatal(err)
	}
	at := uint32(f.BAR())
	for _, w := range []struct{ size, write, want uint32 }{
		{4, 0xffffffff, 0xffffc000}, // 0x1800 of registers, the table at 0x2000
		{4, 0, at},
		{4, 0xffffffff, 0xffffc000},
		{4, 0xd0000000, at},
		{4, 0xfffffffe, at},
		{2, 0xffff, at},
		{1, 0xff, at},
	} {
		m.setConfig(1, regBAR, int(w.size), w.write)
		if got := m.config(1, regBAR, 4); got != w.want {
			t.Errorf("BAR 0x%x after 0x%x, want 0x%x", got, w.write, w.want)
		}
	}
	p := make([]byte, 4)
	read := func() uint32 { m.mem.Read(uint64(at)+0x10, p); return le.Uint32(p) }
	m.mem.Write(uint64(at)+0x10, []byte{1, 2, 3, 4})
	if got := read(); got != 0xffffffff {
		t.Errorf("the BAR reads 0x%x while it is off", got)
	}
	m.setConfig(1, regCommand, 2, commandMemory)
	if got := read(); got != 0 {
		t.Errorf("a write came through while the BAR was off: 0x%x", got)
	}
	m.mem.Write(uint64(at)+0x10, []byte{1, 2, 3, 4})
	if got := read(); got != 0x04030201 {
		t.Errorf("reads 0x%x", got)
	}
	// Between the parts of a BAR, and across two, there is nothing.
	for _, off := range []uint64{0x17fe, 0x1800, 0x2000 + 3*entrySize - 2, 0x2000 + 3*entrySize + 8, 0x3ffc} {
		m.mem.Write(uint64(at)+off, []byte{1, 2, 3, 4})
		if m.mem.Read(uint64(at)+off, p); le.Uint32(p) != 0xffffffff {
			t.Errorf("offset 0x%x reads % x", off, p)
		}
	}
	m.setConfig(1, regCommand, 2, 0)
	if got := read(); got != 0xffffffff {
		t.Errorf("reads 0x%x when it is off again", got)
	}
}

func TestAdd(t *testing.T) {
	m := newMachine(t)
	var end memory.GPA
	for i := range MaxFunctions {
		c := testConfig(t)
		c.BARSize = uint64(i%3) * 0x1800
		if c.BARSize == 0 {
			c.BAR = nil
		}
		f, err := m.bus.Add(c)
		if err != nil {
			t.Fatal(err)
		}
		size := memory.GPA(f.barSize)
		if f.BAR() < end || f.BAR()%size != 0 || f.BAR()+size > WindowStart+WindowSize {
			t.Errorf("BAR %d of 0x%x bytes at %s, after %s", i, size, f.BAR(), end)
		}
		end = f.BAR() + size
	}
	for _, tt := range []struct {
		name string
		n    int // functions on the bus
		c    Config
		want string
	}{
		{"too many", MaxFunctions, Config{Name: "straw"}, "PCI device straw: a guest has at most 31 PCI devices"},
		{"vectors", 0, Config{Vectors: MaxVectors + 1}, "2049 MSI-X vectors"},
		{"negative vectors", 0, Config{Vectors: -1}, "-1 MSI-X vectors"},
		{"capabilities", 0, Config{Capabilities: slices.Repeat([]Capability{{ID: 9, Body: make([]byte, 30)}}, 7)}, "don't fit"},
		{"large BAR", 0, Config{BAR: &ram{}, BARSize: 1 << 63}, "no room"},
		{"window full", 1, Config{BAR: &ram{}, BARSize: WindowSize}, "no room"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			for range tt.n {
				if _, err := m.bus.Add(testConfig(t)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := m.bus.Add(tt.c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestAllocations holds that accesses and interrupts allocate nothing.
func TestAllocations(t *testing.T) {
	m := newMachine(t)
	f, err := m.bus.Add(testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	m.setConfig(1, regCommand, 2, commandMemory|commandMaster)
	m.sent = make([]message, 0, 1000)
	p, registers := make([]byte, 4), []byte{0x48, 8, 0, 0x80} // a capability's
	if n := testing.AllocsPerRun(100, func() {
		m.io.Write(ConfigPort, registers)
		m.io.Read(ConfigPort+dataPort, p)
		m.io.Write(ConfigPort+dataPort, p)
		m.mem.Read(uint64(f.BAR()), p)
		m.mem.Write(uint64(f.BAR()), p)
		m.mem.Write(uint64(f.BAR())+0x2000, p)
		f.Signal(0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
