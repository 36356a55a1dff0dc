// Package bus routes a guest's accesses to I/O ports and to memory to devices.
//
// The bus owns addresses; a device sees offsets into its own range, and never
// an access that leaves it. Where there is no device, reads give all ones and
// writes are lost, as on a PC.
package bus

import (
	"errors"
	"fmt"
	"sort"
)

// Device is a set of registers. Off is the offset of the access in the
// device's range; [off, off+len(p)) lies within the range and p is not empty,
// but the guest chooses both, so any size at any offset must be survived.
// Methods are called from all vCPUs at once, and keep neither p nor its
// backing array.
type Device interface {
	// Read fills p with the registers from off on.
	Read(off uint64, p []byte)
	// Write stores p into the registers from off on.
	Write(off uint64, p []byte)
}

// ErrOverlap is wrapped by Add's error where two ranges meet.
var ErrOverlap = errors.New("address ranges overlap")

// Bus is an address space of devices. Add all devices before the first access;
// from then on the table is read-only and lookups take no lock. The zero Bus
// is empty and ready.
type Bus struct {
	devices []mapping // ascending, disjoint
}

type mapping struct {
	first, last uint64
	dev         Device
	name        string
}

func (m mapping) String() string { return fmt.Sprintf("%s at [0x%x, 0x%x]", m.name, m.first, m.last) }

// Add gives [base, base+size) to d. Name appears in errors only.
func (b *Bus) Add(name string, base, size uint64, d Device) error {
	m := mapping{first: base, last: base + size - 1, dev: d, name: name}
	if size == 0 || m.last < base {
		return fmt.Errorf("device %s at 0x%x, %d bytes: not an address range", name, base, size)
	}
	i := b.search(base)
	if i < len(b.devices) && b.devices[i].first <= m.last {
		return fmt.Errorf("device %s and %s: %w", m, b.devices[i], ErrOverlap)
	}
	b.devices = append(b.devices, mapping{})
	copy(b.devices[i+1:], b.devices[i:])
	b.devices[i] = m
	return nil
}

// Read fills p with what the guest reads at addr. An access that isn't wholly
// in one device's range belongs to nobody.
func (b *Bus) Read(addr uint64, p []byte) {
	if len(p) == 0 {
		return
	}
	if m := b.find(addr, len(p)); m != nil {
		m.dev.Read(addr-m.first, p)
		return
	}
	for i := range p {
		p[i] = 0xff
	}
}

// Write hands what the guest writes at addr to its device, under Read's rules.
func (b *Bus) Write(addr uint64, p []byte) {
	if len(p) == 0 {
		return
	}
	if m := b.find(addr, len(p)); m != nil {
		m.dev.Write(addr-m.first, p)
	}
}

// search returns the index of the first device that ends at or after addr.
func (b *Bus) search(addr uint64) int {
	return sort.Search(len(b.devices), func(i int) bool { return b.devices[i].last >= addr })
}

// find returns the device whose range holds all n bytes from addr.
func (b *Bus) find(addr uint64, n int) *mapping {
	i := b.search(addr)
	if i == len(b.devices) {
		return nil
	}
	m := &b.devices[i]
	if addr < m.first || m.last-addr < uint64(n)-1 {
		return nil
	}
	return m
}
