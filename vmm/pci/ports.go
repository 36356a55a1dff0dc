package pci

import (
	"encoding/binary"

	"offmap/vmm/bus"
	"offmap/vmm/power"
)

// Offsets from ConfigPort.
const (
	addressPort = 0
	resetPort   = power.ResetPort - ConfigPort
	dataPort    = 4
)

// CONFIG_ADDRESS, PCI 3.0 §3.2.2.3.2.
const (
	addressEnable   = 1 << 31
	addressReserved = 0x7f << 24
	addressBus      = 0xff << 16
	addressDevice   = 0x1f << 11
	addressFunction = 0x07 << 8
	addressRegister = 0xfc
)

// ports are the ConfigSize I/O ports from ConfigPort on.
type ports struct {
	b     *Bus
	reset bus.Device
}

// Ports returns the device for the I/O ports of configuration mechanism #1. As in
// the PIIX and ICH chip sets, a byte access to the second one is no part of
// CONFIG_ADDRESS, which takes only whole accesses. It goes to reset, the reset
// control register.
func (b *Bus) Ports(reset bus.Device) bus.Device { return &ports{b, reset} }

// Read implements bus.Device.
func (d *ports) Read(off uint64, p []byte) {
	switch {
	case off == addressPort && len(p) == 4:
		binary.LittleEndian.PutUint32(p, d.b.address.Load())
	case off == resetPort && len(p) == 1:
		d.reset.Read(0, p)
	default:
		if f, reg := d.target(off); f != nil {
			f.readConfig(reg, p)
			return
		}
		ones(p)
	}
}

// Write implements bus.Device.
func (d *ports) Write(off uint64, p []byte) {
	switch {
	case off == addressPort && len(p) == 4:
		d.b.address.Store(binary.LittleEndian.Uint32(p))
	case off == resetPort && len(p) == 1:
		d.reset.Write(0, p)
	default:
		if f, reg := d.target(off); f != nil {
			f.writeConfig(reg, p)
		}
	}
}

// target returns the function that an access at off is for, and the first register:
// nil where there is none. Reserved bits of the address have AMD's extended
// registers, which these functions lack.
func (d *ports) target(off uint64) (f *Function, reg int) {
	a := d.b.address.Load()
	if off < dataPort || a&addressEnable == 0 || a&(addressReserved|addressBus|addressFunction) != 0 {
		return nil, 0
	}
	n := int(a & addressDevice >> 11)
	if n >= len(d.b.slots) {
		return nil, 0
	}
	return d.b.slots[n], int(a&addressRegister) + int(off-dataPort)
}

// ones is what a read gives where nothing answers.
func ones(p []byte) {
	for i := range p {
		p[i] = 0xff
	}
}
