// Package pci is PCI bus 0 of a guest: a host bridge, and up to 31 functions with
// one memory BAR and MSI-X each (PCI Local Bus Specification 3.0).
//
// The guest reaches configuration space by mechanism #1, the I/O ports 0xcf8 to
// 0xcff. There is no INTx, no I/O BAR, no bridge to another bus and no hot-plug:
// modern virtio needs none of them.
//
// BARs don't move. A function decodes the address that Add gave it, as long as its
// command register enables memory. So KVM can watch that address for kicks
// (VM.IOEventFD) from the start, and a guest can't lay a BAR over another or over
// RAM. Guests take BARs that firmware has placed as they are. Kicks arrive with memory
// disabled, too; that is harmless, since a kick says no more than "look".
package pci

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"offmap/memory"
	"offmap/vmm/bus"
)

// ConfigPort is the first of ConfigSize I/O ports: CONFIG_ADDRESS and CONFIG_DATA,
// 4 bytes each (PCI 3.0 §3.2.2.3.2).
const (
	ConfigPort = 0xcf8
	ConfigSize = 8
)

// BARs lie in the window of WindowSize bytes from WindowStart on, in the PCI hole.
const (
	WindowStart = memory.HoleStart
	WindowSize  = 64 << 20
)

// MaxFunctions is how many functions Add takes. A bus has 32 device numbers, and the
// host bridge has one of them.
const MaxFunctions = 31

// VM is what the bus and its functions need of the virtual machine.
type VM interface {
	// SignalMSI writes data to addr, which a local APIC takes as an interrupt.
	SignalMSI(addr uint64, data uint32)
	// IOEventFD has an eventfd signalled when the guest writes to addr, whatever
	// the size and the value. remove ends that.
	IOEventFD(addr memory.GPA, fd int) (remove func() error, err error)
}

// Bus is PCI bus 0. Add all functions before the guest runs.
type Bus struct {
	vm      VM
	memory  *bus.Bus
	next    memory.GPA  // first free address of the window
	slots   []*Function // by device number; all are function 0
	address atomic.Uint32
}

// The host bridge is QEMU's generic one (docs/specs/pci-ids.rst there), which Linux
// has neither a driver nor a quirk for.
var hostBridge = Config{Name: "host bridge", Vendor: 0x1b36, Device: 0x0008, Class: 0x060000}

// NewBus makes a bus with a host bridge as device 0. BARs become devices on mem, the
// guest-physical address space.
func NewBus(vm VM, mem *bus.Bus) *Bus {
	b := &Bus{vm: vm, memory: mem, next: WindowStart}
	b.slots = append(b.slots, newFunction(b, hostBridge))
	return b
}

// VM returns the virtual machine that the bus is part of.
func (b *Bus) VM() VM { return b.vm }

// Add puts a function on the bus, with the next free device number.
func (b *Bus) Add(c Config) (*Function, error) {
	if len(b.slots) > MaxFunctions {
		return nil, fmt.Errorf("PCI device %s: a guest has at most %d PCI devices", c.Name, MaxFunctions)
	}
	f := newFunction(b, c)
	if err := f.addCapabilities(); err != nil {
		return nil, fmt.Errorf("PCI device %s: %w", c.Name, err)
	}
	if err := b.place(f); err != nil {
		return nil, fmt.Errorf("PCI device %s: %w", c.Name, err)
	}
	b.slots = append(b.slots, f)
	return f, nil
}

// place gives the function its BAR: a power of two, and aligned to its size.
func (b *Bus) place(f *Function) error {
	size, err := f.layOut()
	if err != nil || size == 0 {
		return err
	}
	size = max(uint64(memory.PageSize), 1<<bits.Len64(size-1))
	at := (b.next + memory.GPA(size) - 1) &^ (memory.GPA(size) - 1)
	if at+memory.GPA(size) > WindowStart+WindowSize {
		return fmt.Errorf("no room for a BAR of %d bytes: the window for all of them has %d", size, WindowSize)
	}
	if err := b.memory.Add(f.name, uint64(at), size, barAccess{f}); err != nil {
		return err
	}
	b.next = at + memory.GPA(size)
	f.setBAR(at, size)
	return nil
}

// Interrupts reports what the functions could send as the guest has set them up:
// interrupts that a vCPU can turn off, and others, such as NMIs.
func (b *Bus) Interrupts() (maskable, other bool) {
	for _, f := range b.slots {
		m, o := f.interrupts()
		maskable, other = maskable || m, other || o
	}
	return maskable, other
}
