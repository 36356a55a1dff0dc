package pci

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"offmap/memory"
	"offmap/vmm/bus"
)

// Config describes a function.
type Config struct {
	Name                 string // for errors
	Vendor, Device       uint16
	SubVendor, SubDevice uint16
	Revision             byte
	Class                uint32 // 24 bits: class, subclass, interface
	Capabilities         []Capability
	// BAR has the device's own registers, the first BARSize bytes of a 32-bit
	// memory BAR. The bus adds the MSI-X table and its pending bits behind them,
	// and makes the whole a power of two.
	BAR     bus.Device
	BARSize uint64
	Vectors int // of MSI-X: 0 to MaxVectors
}

// Capability is an entry of the capability list (PCI 3.0 §6.7), without its ID and
// pointer: Body begins with the third byte. The guest can only read it.
type Capability struct {
	ID   byte
	Body []byte
	// Registers, if not nil, gets the guest's accesses to the Body, whose contents
	// are then ignored. Offset 0 is the Body's first byte.
	Registers bus.Device
}

// Registers of the configuration header, PCI 3.0 §6.1 and §6.2.
const (
	regVendor       = 0x00 // 16 bits
	regDevice       = 0x02 // 16 bits
	regCommand      = 0x04 // 16 bits
	regStatus       = 0x06 // 16 bits
	regRevision     = 0x08
	regClass        = 0x09 // 24 bits
	regBAR          = 0x10 // 32 bits
	regSubVendor    = 0x2c // 16 bits
	regSubDevice    = 0x2e // 16 bits
	regCapabilities = 0x34
	regLine         = 0x3c // of INTx: memory for the guest, without a meaning
	headerEnd       = 0x40
	configSpace     = 256

	commandMemory  = 1 << 1
	commandMaster  = 1 << 2
	commandNoINTx  = 1 << 10
	statusHasCaps  = 1 << 4
	capabilityHead = 2 // bytes: ID, pointer to the next
)

// Function is function 0 of a device on the bus. Its methods may be called from any
// goroutine.
type Function struct {
	bus      *Bus
	name     string
	cfg      Config
	bar      memory.GPA
	barSize  uint64
	regs     bus.Bus // what the BAR holds, from offset 0 on
	handlers []handler
	memory   atomic.Bool // the command register enables the BAR

	mu       sync.Mutex // guards what follows
	space    [configSpace]byte
	writable [configSpace]byte // bits that the guest may change
	sizing   bool              // the guest has written all ones to the BAR
	control  int               // register of MSI-X's message control, 0 without MSI-X
	table    []byte            // MSI-X table
	pending  []byte            // MSI-X pending bits
}

// handler is a capability whose body is a device's.
type handler struct {
	first, end int // registers
	dev        bus.Device
}

func newFunction(b *Bus, c Config) *Function {
	f := &Function{bus: b, name: c.Name, cfg: c}
	le := binary.LittleEndian
	le.PutUint16(f.space[regVendor:], c.Vendor)
	le.PutUint16(f.space[regDevice:], c.Device)
	le.PutUint32(f.space[regRevision:], c.Class<<8|uint32(c.Revision))
	le.PutUint16(f.space[regSubVendor:], c.SubVendor)
	le.PutUint16(f.space[regSubDevice:], c.SubDevice)
	le.PutUint16(f.writable[regCommand:], commandMemory|commandMaster|commandNoINTx)
	f.writable[regLine] = 0xff
	return f
}

// addCapabilities makes the capability list: those of the device, and MSI-X.
func (f *Function) addCapabilities() error {
	pointer, at := regCapabilities, headerEnd
	add := func(c Capability) (body int, err error) {
		body = at + capabilityHead
		end := body + len(c.Body)
		if end > configSpace {
			return 0, fmt.Errorf("capabilities don't fit into %d bytes of configuration space", configSpace)
		}
		f.space[regStatus] |= statusHasCaps
		f.space[pointer] = byte(at)
		f.space[at] = c.ID
		copy(f.space[body:], c.Body)
		if c.Registers != nil {
			f.handlers = append(f.handlers, handler{body, end, c.Registers})
		}
		pointer, at = at+1, (end+3)&^3
		return body, nil
	}
	for _, c := range f.cfg.Capabilities {
		if _, err := add(c); err != nil {
			return err
		}
	}
	if f.cfg.Vectors == 0 {
		return nil
	}
	if f.cfg.Vectors < 0 || f.cfg.Vectors > MaxVectors {
		return fmt.Errorf("%d MSI-X vectors: a function has 0 to %d", f.cfg.Vectors, MaxVectors)
	}
	body, err := add(Capability{ID: msixID, Body: f.msixBody()})
	if err != nil {
		return err
	}
	f.control = body
	binary.LittleEndian.PutUint16(f.writable[f.control:], msixEnable|msixMask)
	return nil
}

// layOut puts registers, MSI-X table and pending bits into the BAR, and returns the
// size of all.
func (f *Function) layOut() (size uint64, err error) {
	if f.cfg.BARSize > WindowSize {
		return 0, fmt.Errorf("no room for %d bytes of registers: the window for all of them has %d", f.cfg.BARSize, WindowSize)
	}
	table, pending := f.msixOffsets()
	for _, part := range []struct {
		name     string
		at, size uint64
		dev      bus.Device
	}{
		{"registers", 0, f.cfg.BARSize, f.cfg.BAR},
		{"MSI-X table", table, uint64(len(f.table)), tableAccess{f}},
		{"MSI-X pending bits", pending, uint64(len(f.pending)), pendingAccess{f}},
	} {
		if part.size == 0 {
			continue
		}
		if err := f.regs.Add(part.name, part.at, part.size, part.dev); err != nil {
			return 0, err
		}
		size = part.at + part.size
	}
	return size, nil
}

func (f *Function) setBAR(at memory.GPA, size uint64) {
	f.bar, f.barSize = at, size
	// The low bits say: 32-bit memory, not prefetchable.
	binary.LittleEndian.PutUint32(f.space[regBAR:], uint32(at))
}

// BAR returns the address of the function's registers, which never changes.
func (f *Function) BAR() memory.GPA { return f.bar }

// readConfig fills p with registers from reg on. They lie within 4 aligned bytes.
func (f *Function) readConfig(reg int, p []byte) {
	f.mu.Lock()
	copy(p, f.space[reg:])
	if f.sizing && reg&^3 == regBAR {
		var size [4]byte
		binary.LittleEndian.PutUint32(size[:], -uint32(f.barSize))
		copy(p, size[reg-regBAR:])
	}
	f.mu.Unlock()
	f.handle(reg, p, bus.Device.Read)
}

// writeConfig stores p into registers from reg on, as far as they are writable.
func (f *Function) writeConfig(reg int, p []byte) {
	f.mu.Lock()
	for i, v := range p {
		w := f.writable[reg+i]
		f.space[reg+i] = f.space[reg+i]&^w | v&w
	}
	if reg&^3 == regBAR {
		// A guest finds out the size by writing all ones. Whatever else it
		// writes, the BAR stays where it is.
		f.sizing = f.barSize != 0 && len(p) == 4 && binary.LittleEndian.Uint32(p) == 1<<32-1
	}
	f.memory.Store(f.word(regCommand)&commandMemory != 0)
	f.setUpMSIX()
	f.mu.Unlock()
	f.handle(reg, p, bus.Device.Write)
}

// word returns the 16-bit register at reg.
func (f *Function) word(reg int) uint16 { return binary.LittleEndian.Uint16(f.space[reg:]) }

// handle gives a device the part of an access that is in its capability. The lock
// isn't held: the device may use the function.
func (f *Function) handle(reg int, p []byte, access func(bus.Device, uint64, []byte)) {
	for _, h := range f.handlers {
		if first, end := max(reg, h.first), min(reg+len(p), h.end); first < end {
			access(h.dev, uint64(first-h.first), p[first-reg:end-reg])
		}
	}
}

// barAccess is the BAR as a device in the guest's memory.
type barAccess struct{ f *Function }

// Read implements bus.Device.
func (b barAccess) Read(off uint64, p []byte) {
	if !b.f.memory.Load() {
		ones(p)
		return
	}
	b.f.regs.Read(off, p)
}

// Write implements bus.Device.
func (b barAccess) Write(off uint64, p []byte) {
	if b.f.memory.Load() {
		b.f.regs.Write(off, p)
	}
}
