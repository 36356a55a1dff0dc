package boot

import (
	"encoding/binary"
	"slices"
)

// A small encoder of AML, ACPI 6.5 chapter 20: what our DSDT needs of it.

// AML opcodes, §20.3.
const (
	amlName    = 0x08
	amlByte    = 0x0a
	amlWord    = 0x0b
	amlDWord   = 0x0c
	amlString  = 0x0d
	amlScope   = 0x10
	amlBuffer  = 0x11
	amlPackage = 0x12
	amlExt     = 0x5b // before amlDevice
	amlDevice  = 0x82
)

// amlNamed makes Name (name, value). Names have four characters.
func amlNamed(name string, value []byte) []byte {
	return slices.Concat([]byte{amlName}, []byte(name), value)
}

// amlBlock makes Scope (name) { body... } and the like: the package length (§20.2.4)
// counts itself and all that follows it.
func amlBlock(op []byte, head []byte, body ...[]byte) []byte {
	rest := slices.Concat(head, slices.Concat(body...))
	var length []byte
	if n := len(rest) + 1; n < 1<<6 {
		length = []byte{byte(n)}
	} else {
		n++ // two bytes hold up to 4095
		length = []byte{1<<6 | byte(n&0xf), byte(n >> 4)}
	}
	return slices.Concat(op, length, rest)
}

func amlScoped(name string, body ...[]byte) []byte {
	return amlBlock([]byte{amlScope}, []byte(name), body...)
}

func amlDeviced(name string, body ...[]byte) []byte {
	return amlBlock([]byte{amlExt, amlDevice}, []byte(name), body...)
}

func amlPackaged(elements ...[]byte) []byte {
	return amlBlock([]byte{amlPackage}, []byte{byte(len(elements))}, elements...)
}

// amlInteger encodes an integer in as few bytes as it takes.
func amlInteger(v uint32) []byte {
	switch {
	case v == 0:
		return []byte{0}
	case v < 1<<8:
		return []byte{amlByte, byte(v)}
	case v < 1<<16:
		return binary.LittleEndian.AppendUint16([]byte{amlWord}, uint16(v))
	}
	return binary.LittleEndian.AppendUint32([]byte{amlDWord}, v)
}

func amlText(s string) []byte { return slices.Concat([]byte{amlString}, []byte(s), []byte{0}) }

// amlEISA is the compressed form of an ID such as PNP0A03 (§19.3.4): five bits a
// letter, four bits a digit, and the most significant byte first.
func amlEISA(id string) []byte {
	var v uint32
	for _, c := range []byte(id[:3]) {
		v = v<<5 | uint32(c-'A'+1)
	}
	for _, c := range []byte(id[3:]) {
		digit := uint32(c - '0')
		if c >= 'A' {
			digit = uint32(c-'A') + 10
		}
		v = v<<4 | digit
	}
	return binary.BigEndian.AppendUint32([]byte{amlDWord}, v)
}

// Resource descriptors, §6.4.
const (
	resourceIO       = 0x47 // I/O port descriptor with its 7 bytes
	resourceDecode16 = 1
	resourceEnd      = 0x79
	resourceDWord    = 0x87
	resourceWord     = 0x88

	resourceMemory = 0 // types of address spaces
	resourceBus    = 2
	resourceFixed  = 3 << 2 // neither end can move; the device passes the range on
	resourceWrite  = 1      // memory: can be written, not cacheable
)

// amlResources makes the ResourceTemplate of a device's _CRS.
func amlResources(descriptors ...[]byte) []byte {
	b := append(slices.Concat(descriptors...), resourceEnd, 0) // no checksum
	return amlBlock([]byte{amlBuffer}, amlInteger(uint32(len(b))), b)
}

// amlPorts are n I/O ports that the device itself uses.
func amlPorts(first uint16, n byte) []byte {
	b := []byte{resourceIO, resourceDecode16}
	b = binary.LittleEndian.AppendUint16(b, first)
	b = binary.LittleEndian.AppendUint16(b, first)
	return append(b, 1, n) // alignment, length
}

// amlBuses are the bus numbers from first to last behind a bridge.
func amlBuses(first, last byte) []byte {
	b := []byte{resourceWord, 13, 0, resourceBus, resourceFixed, 0}
	for _, v := range []uint16{0, uint16(first), uint16(last), 0, uint16(last-first) + 1} { // granularity, range, translation, length
		b = binary.LittleEndian.AppendUint16(b, v)
	}
	return b
}

// amlMemory is the window of memory addresses behind a bridge.
func amlMemory(start, size uint32) []byte {
	b := []byte{resourceDWord, 23, 0, resourceMemory, resourceFixed, resourceWrite}
	for _, v := range []uint32{0, start, start + size - 1, 0, size} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}
