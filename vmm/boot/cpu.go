package boot

import (
	"encoding/binary"

	"offmap/memory"
	"offmap/vmm/pci"
)

// Bits of the control registers, EFER and RFLAGS, Intel SDM vol. 3 §2.5, §2.2.1
// and vol. 1 §3.4.3.
const (
	cr0PE = 1 << 0
	cr0MP = 1 << 1
	cr0ET = 1 << 4
	cr0NE = 1 << 5
	cr0WP = 1 << 16
	cr0PG = 1 << 31

	cr4PAE        = 1 << 5
	cr4OSFXSR     = 1 << 9  // SSE
	cr4OSXMMEXCPT = 1 << 10 // its exceptions
	cr4OSXSAVE    = 1 << 18 // XCR0

	xcr0X87 = 1 << 0
	xcr0SSE = 1 << 1
	xcr0AVX = 1 << 2

	eferLME = 1 << 8
	eferLMA = 1 << 10

	rflagsFixed = 1 << 1
	rflagsIOPL3 = 3 << 12
)

// CPU is the state that a vCPU starts in: 64-bit mode, paging on, interrupts
// off. Registers that are not named here are zero.
type CPU struct {
	RIP, RSP, RSI, RDI uint64
	RFLAGS             uint64

	CR0, CR3, CR4, EFER uint64
	// XCR0 stays as it is after a reset where this is 0.
	XCR0 uint64

	GDT, IDT Table
	CS       Segment
	Data     Segment // DS, ES, FS, GS and SS
	TR       Segment
}

// Table is a descriptor table register: the guest-physical address (which is
// also the linear one here) and the offset of the last byte.
type Table struct {
	Base  uint64
	Limit uint16
}

// Segment is a segment register with the hidden part that the CPU would have
// loaded from its descriptor (Intel SDM vol. 3 §3.4.5). The base of all of
// them is 0.
type Segment struct {
	Selector    uint16
	Type        uint8 // type field with the accessed (code, data) or busy (TSS) bit
	DPL         uint8
	Limit       uint32 // bytes, already scaled
	System      bool   // a system segment: descriptor's S bit is clear
	Long        bool   // 64-bit code
	Big         bool   // D/B
	Granularity bool   // limit counts 4 KiB units in the descriptor
}

// Descriptor types, Intel SDM vol. 3 §3.4.5.1 and §3.5.
const (
	typeData    = 0x3 // read, write, accessed
	typeCode    = 0xb // execute, read, accessed
	typeTSSBusy = 0xb
)

// descriptor encodes s as its eight-byte GDT entry. A TSS has eight more in
// 64-bit mode, the upper half of its base: zero.
func (s Segment) descriptor() uint64 {
	limit := uint64(s.Limit)
	d := uint64(s.Type)<<40 | uint64(s.DPL)<<45 | 1<<47
	if !s.System {
		d |= 1 << 44
	}
	if s.Long {
		d |= 1 << 53
	}
	if s.Big {
		d |= 1 << 54
	}
	if s.Granularity {
		d |= 1 << 55
		limit >>= 12
	}
	return d | limit&0xffff | limit>>16<<48
}

// The GDT: null, unused, the selectors that boot.rst asks for as __BOOT_CS and
// __BOOT_DS, and a TSS of two entries.
const (
	selectorCode = 0x10
	selectorData = 0x18
	selectorTSS  = 0x20
	gdtSize      = 0x30 // bytes
)

// tables are the guest-physical addresses of what a CPU in 64-bit mode needs.
type tables struct {
	gdt  memory.GPA
	cr3  uint64 // from identity
	ring uint8  // 0 or 3
}

// longMode writes GDT and TSS and returns the state common to everything that
// we start: 64-bit mode with flat segments. Ring 3 may use the I/O ports of a
// payload.
func longMode(g memory.Guest, t tables) (CPU, error) {
	c := CPU{
		RFLAGS: rflagsFixed,
		CR0:    cr0PE | cr0MP | cr0ET | cr0NE | cr0WP | cr0PG,
		CR3:    t.cr3,
		CR4:    cr4PAE,
		EFER:   eferLME | eferLMA,
		GDT:    Table{Base: uint64(t.gdt), Limit: gdtSize - 1},
		CS: Segment{Selector: selectorCode | uint16(t.ring), Type: typeCode, DPL: t.ring,
			Limit: 1<<32 - 1, Long: true, Granularity: true},
		Data: Segment{Selector: selectorData | uint16(t.ring), Type: typeData, DPL: t.ring,
			Limit: 1<<32 - 1, Big: true, Granularity: true},
		TR: Segment{Selector: selectorTSS, Type: typeTSSBusy, System: true, Limit: tssSize - 1},
	}
	if t.ring == 3 {
		c.RFLAGS |= rflagsIOPL3
	}
	var gdt [gdtSize]byte
	for _, s := range []Segment{c.CS, c.Data, c.TR} {
		binary.LittleEndian.PutUint64(gdt[s.Selector&^7:], s.descriptor())
	}
	if err := write(g, t.gdt, gdt[:], "GDT"); err != nil {
		return CPU{}, err
	}
	return c, write(g, tssAddr, tss(), "TSS")
}

// A 64-bit TSS (Intel SDM vol. 3 §8.7): nothing of it is used but the I/O
// permission bitmap, which opens all ports up to those of PCI configuration. IOPL
// 3 would do on hardware, but kvm_pvm runs CPL 3 code with IOPL 0 (measured on
// 6.18) and asks the bitmap.
//
// It lies at address 0, where real mode's interrupt vectors would be, like
// every other segment.
const (
	tssAddr memory.GPA = 0

	tssFixed     = 104                                   // bytes before the bitmap
	tssBitmapPtr = 102                                   // offset of the bitmap's offset
	tssBitmap    = (pci.ConfigPort + pci.ConfigSize) / 8 // bytes
	tssSize      = tssFixed + tssBitmap + 1              // a byte of ones must follow
)

func tss() []byte {
	t := make([]byte, tssSize)
	binary.LittleEndian.PutUint16(t[tssBitmapPtr:], tssFixed)
	t[tssSize-1] = 0xff
	return t
}
