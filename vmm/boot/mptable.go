package boot

import (
	"encoding/binary"

	"offmap/memory"
)

// Intel MultiProcessor Specification 1.4, chapter 4.
const (
	mpSpec        = 4    // version 1.4
	mpAPICVersion = 0x14 // of local and I/O APIC, as KVM's

	mpHeaderSize     = 44
	mpHeaderLength   = 4  // offset of the table's length
	mpHeaderChecksum = 7  // offset
	mpHeaderEntries  = 34 // offset of the number of entries
	mpPointerSum     = 10 // offset of the checksum

	mpProcessor = 0 // 20 bytes; all other entries have 8
	mpBus       = 1
	mpIOAPIC    = 2
	mpInterrupt = 3
	mpLocal     = 4

	mpEnabled   = 1
	mpBootstrap = 2

	mpINT    = 0 // interrupt types, table 4-10
	mpNMI    = 1
	mpExtINT = 3

	mpISABus   = 0
	mpAllAPICs = 0xff
)

// What the processor entries say about the CPUs. Linux believes CPUID.
const (
	mpSignature = 0x600
	mpFeatures  = 1<<9 | 1<<0 // APIC, FPU
)

// mpPointer makes the floating pointer to a table at at.
func mpPointer(at memory.GPA) []byte {
	b := []byte("_MP_")
	b = binary.LittleEndian.AppendUint32(b, uint32(at))
	b = append(b, 1, mpSpec, 0)  // length in 16 bytes, specification, checksum
	b = append(b, 0, 0, 0, 0, 0) // a table is present; virtual wire mode
	seal(b, mpPointerSum)
	return b
}

// mpTable makes the configuration table: processors, the ISA bus, the I/O APIC
// and what is wired to it, so that a kernel without ACPI runs on all vCPUs.
func mpTable(cpus int) []byte {
	le := binary.LittleEndian
	b := []byte("PCMP")
	b = append(b, 0, 0, mpSpec, 0) // length, checksum: below
	b = append(b, "OFFMAP  "...)
	b = append(b, "GUEST       "...)
	b = append(b, make([]byte, 4+2+2)...) // no OEM table; entries: below
	b = le.AppendUint32(b, localAPICAddr)
	b = append(b, make([]byte, 4)...) // no extended table

	entries := 0
	add := func(e ...byte) {
		b = append(b, e...)
		entries++
	}
	for id := range cpus {
		flags := byte(mpEnabled)
		if id == 0 {
			flags |= mpBootstrap
		}
		e := []byte{mpProcessor, byte(id), mpAPICVersion, flags}
		e = le.AppendUint32(e, mpSignature)
		e = le.AppendUint32(e, mpFeatures)
		add(append(e, make([]byte, 8)...)...)
	}
	add(append([]byte{mpBus, mpISABus}, "ISA   "...)...)
	add(le.AppendUint32([]byte{mpIOAPIC, ioAPICID(cpus), mpAPICVersion, mpEnabled}, ioAPICAddr)...)
	for irq := range byte(isaIRQs) {
		if irq == cascadeIRQ {
			continue
		}
		// Flags 0: polarity and trigger as the bus has them.
		add(mpInterrupt, mpINT, 0, 0, mpISABus, irq, ioAPICID(cpus), irq)
	}
	add(mpLocal, mpExtINT, 0, 0, mpISABus, 0, mpAllAPICs, 0) // LINT0: the PIC
	add(mpLocal, mpNMI, 0, 0, mpISABus, 0, mpAllAPICs, 1)    // LINT1

	le.PutUint16(b[mpHeaderLength:], uint16(len(b)))
	le.PutUint16(b[mpHeaderEntries:], uint16(entries))
	seal(b, mpHeaderChecksum)
	return b
}
