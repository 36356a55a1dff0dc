// Package boot puts into guest RAM what a guest needs before its first
// instruction, and says how its vCPUs must start: a Linux kernel with its
// boot parameters and firmware tables (Linux), or one of our bare payloads
// (Payload, Probe).
//
// It knows nothing of KVM: guest RAM is written through memory.Guest, and the
// CPU state is plain data. Kernel, initrd and payload images are untrusted;
// what they claim is checked against the layout before a byte is copied.
// Guest RAM must read as zeros when the functions here are called, as that of
// a new machine does: zero pages are left alone, so that they cost nothing.
package boot

// Bits of the control registers, EFER and RFLAGS, Intel SDM vol. 3 §2.5, §2.2.1
// and vol. 1 §3.4.3.
const (
	cr0PE = 1 << 0
	cr0MP = 1 << 1
	cr0ET = 1 << 4
	cr0NE = 1 << 5
	cr0WP = 1 << 16
	cr0PG = 1 << 31

	cr4PAE = 1 << 5

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
// loaded from its descriptor (Intel SDM vol. 3 §3.4.5). Base is 0 in all of
// them, Limit is in bytes, already scaled.
type Segment struct {
	Selector    uint16
	Type        uint8 // type field with the accessed (code, data) or busy (TSS) bit
	DPL         uint8
	Limit       uint32
	System      bool // a system segment: descriptor's S bit is clear
	Long        bool // 64-bit code
	Big         bool // D/B
	Granularity bool // limit counts 4 KiB units in the descriptor
}

// Descriptor types, Intel SDM vol. 3 §3.4.5.1 and §3.5.
const (
	typeData    = 0x3 // read, write, accessed
	typeCode    = 0xb // execute, read, accessed
	typeTSSBusy = 0xb
)

// descriptor encodes s as its eight-byte GDT entry. A TSS takes a second one
// in 64-bit mode, which is zero for a base below 4 GiB.
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

// segments returns flat 64-bit segments at privilege level ring, with the
// selectors that boot.rst asks for: __BOOT_CS 0x10 and __BOOT_DS 0x18.
func segments(ring uint8) (cs, data, tr Segment) {
	cs = Segment{Selector: 0x10 | uint16(ring), Type: typeCode, DPL: ring, Limit: 1<<32 - 1, Long: true, Granularity: true}
	data = Segment{Selector: 0x18 | uint16(ring), Type: typeData, DPL: ring, Limit: 1<<32 - 1, Big: true, Granularity: true}
	// No task switch ever happens, but VM entry wants a busy 64-bit TSS in
	// TR (Intel SDM vol. 3 §28.3.1.2).
	tr = Segment{Selector: 0x20, Type: typeTSSBusy, System: true, Limit: 0x67}
	return cs, data, tr
}

// gdtEntries is the size of the GDT: null, unused, code, data, and two for
// the TSS.
const gdtEntries = 6

// gdt encodes the GDT that matches segments(ring).
func gdt(cs, data, tr Segment) []uint64 {
	t := make([]uint64, gdtEntries)
	t[cs.Selector>>3] = cs.descriptor()
	t[data.Selector>>3] = data.descriptor()
	t[tr.Selector>>3] = tr.descriptor()
	return t
}

// longMode is the state common to everything that we start: 64-bit mode at
// privilege level ring, with the GDT at gdtAt and the page tables at cr3.
// Ring 3 may use I/O ports.
func longMode(ring uint8, gdtAt, cr3 uint64) CPU {
	c := CPU{
		RFLAGS: rflagsFixed,
		CR0:    cr0PE | cr0MP | cr0ET | cr0NE | cr0WP | cr0PG,
		CR3:    cr3,
		CR4:    cr4PAE,
		EFER:   eferLME | eferLMA,
		GDT:    Table{Base: gdtAt, Limit: gdtEntries*8 - 1},
	}
	if ring == 3 {
		c.RFLAGS |= rflagsIOPL3
	}
	c.CS, c.Data, c.TR = segments(ring)
	return c
}
