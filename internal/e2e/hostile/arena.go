package main

import (
	"encoding/binary"
	"math/rand/v2"
)

// arena is the guest RAM that a device is given: one huge page.
//
// A device that writes where a driver says is right to do so. So no descriptor may lead
// it to RAM of this guest's kernel, whatever the device reads while another thread
// writes: the old address with the new length, or half of an address. Each slot of the
// descriptor area therefore keeps its class for good, and any mix of the bytes of two
// descriptors of a class is harmless.
type arena struct {
	mem []byte
	gpa uint64
	// beyond is the top byte of 32 of the first address after RAM, which ends on a
	// multiple of 16 MiB below 4 GiB.
	beyond byte
}

// Areas. Devices write data to the first one, and used rings to the last one.
const (
	dataArea  = 0
	dataMax   = 0x7ffff // the largest offset, and the most bytes
	descArea  = 1 << 20
	descSlots = 1 << 14
	tableMax  = 0x1ffff // of an indirect table: the largest offset, and the most bytes
	availArea = descArea + 16*descSlots
	usedArea  = availArea + 1<<18
	ringRoom  = 1 << 16 // bytes that a ring has, at least
)

const (
	flagNext     = 1
	flagWrite    = 2
	flagIndirect = 4
)

// class is what a slot of the descriptor area is for.
type class int

const (
	buffers class = iota // in the data area, or from there to after the end of RAM
	outside              // not in RAM
	tables               // indirect tables in the descriptor area
)

func classOf(slot int) class {
	switch slot % 8 {
	case 6:
		return outside
	case 7:
		return tables
	}
	return buffers
}

type desc struct {
	addr        uint64
	len         uint32
	flags, next uint16
}

func (d desc) bytes() (b [16]byte) {
	binary.LittleEndian.PutUint64(b[:], d.addr)
	binary.LittleEndian.PutUint32(b[8:], d.len)
	binary.LittleEndian.PutUint16(b[12:], d.flags)
	binary.LittleEndian.PutUint16(b[14:], d.next)
	return b
}

// put writes a slot.
func (a *arena) put(slot int, d desc) {
	b := d.bytes()
	copy(a.mem[descArea+16*slot:], b[:])
}

// random returns a descriptor for a slot of this class.
func (a *arena) random(r *rand.Rand, c class) desc {
	d := desc{flags: uint16(r.IntN(4)), next: uint16(r.IntN(40))}
	if r.IntN(8) == 0 {
		d.flags |= uint16(r.Uint32()) &^ 7
		d.next = uint16(r.Uint32())
	}
	switch c {
	case buffers:
		d.addr = a.gpa + dataArea + uint64(r.IntN(dataMax+1))
		switch r.IntN(12) {
		case 0: // nothing
		case 1: // over the end of RAM
			d.len = (0x80|r.Uint32())<<24 | uint32(r.IntN(dataMax+1))
		case 2:
			d.len = dataMax
		default:
			d.len = 1 + uint32(r.IntN(1<<(1+r.IntN(15))))
		}
	case outside:
		d.addr, d.len = a.hole(r), r.Uint32()>>r.IntN(32)
		if r.IntN(4) == 0 {
			d.flags |= flagIndirect
		}
	case tables:
		d.addr = a.gpa + descArea + uint64(r.IntN(tableMax+1)&^15)
		d.len = 16 * uint32(1+r.IntN(40))
		if r.IntN(4) == 0 {
			d.len = uint32(r.IntN(tableMax + 1))
		}
		d.flags |= flagIndirect
		if r.IntN(3) > 0 {
			d.flags &^= flagNext
		}
	}
	return d
}

// hole returns an address that isn't RAM. The fourth byte alone says so, as long as the
// guest has no RAM above 4 GiB, so a mix of two such addresses is one.
func (a *arena) hole(r *rand.Rand) uint64 {
	low := uint64(r.Uint32()) & 0xffffff >> r.IntN(25)
	top := uint64(a.beyond) + uint64(r.IntN(256-int(a.beyond)))
	switch r.IntN(6) {
	case 0: // the end of RAM
		return uint64(a.beyond) << 24
	case 1: // BARs
		top = 0xc0
	case 2: // the I/O APIC and the local APIC
		top = 0xfe
		low |= 0xc00000 | uint64(r.IntN(3))<<20
	case 3: // up to the end of the address space
		return ^uint64(0) >> (r.IntN(4) * 8) &^ uint64(r.IntN(64))
	case 4: // above 4 GiB
		return uint64(r.Uint32())>>r.IntN(32)<<32 | top<<24 | low
	}
	return top<<24 | low
}

// fill makes something of all slots, and of the rest.
func (a *arena) fill(r *rand.Rand) {
	for slot := range descSlots {
		a.put(slot, a.random(r, classOf(slot)))
	}
	for i := 0; i < 4096; i += 8 {
		for _, area := range []int{dataArea, availArea, usedArea} {
			binary.LittleEndian.PutUint64(a.mem[area+i:], r.Uint64())
		}
	}
}

// scramble changes something that a device may be reading.
func (a *arena) scramble(r *rand.Rand, near int) {
	switch r.IntN(8) {
	case 0, 1, 2:
		slot := (near + r.IntN(64)) % descSlots
		a.put(slot, a.random(r, classOf(slot)))
	case 3, 4:
		binary.LittleEndian.PutUint64(a.mem[dataArea+8*r.IntN(1<<r.IntN(16)):], r.Uint64()>>r.IntN(64))
	case 5, 6:
		a.mem[availArea+r.IntN(1<<(1+r.IntN(18)))] = byte(r.Uint32())
	case 7:
		a.mem[usedArea+r.IntN(1<<(1+r.IntN(18)))] = byte(r.Uint32())
	}
}
