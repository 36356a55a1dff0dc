package boot

import "offmap/memory"

// Low memory as a Linux guest finds it. Everything below 1 MiB that we write
// has its place here and nowhere else; a test holds that no two overlap. The
// choices below 0x9fc00 are ours and need no protection from the guest: it
// takes what it wants from them, and then the memory is free.
const (
	// Words of the BIOS data area that Linux reads to find the EBDA and the
	// end of base memory (arch/x86/kernel/ebda.c).
	bdaEBDASegment memory.GPA = 0x40e
	bdaBaseMemory  memory.GPA = 0x413

	gdtAddr      memory.GPA = 0x1000
	zeroPageAddr memory.GPA = 0x7000
	stackTop     memory.GPA = 0x9000 // one page, growing down from here
	tablesAddr   memory.GPA = 0x9000 // PML4, PDPT and four PDs
	cmdlineAddr  memory.GPA = 0x20000

	// ebdaAddr ends base memory. The MP floating pointer lies in its first
	// KiB, where the MP specification 1.4 §4 has the OS look.
	ebdaAddr memory.GPA = 0x9fc00
	// vgaAddr ends the EBDA: what follows is RAM to KVM and nothing to e820.
	vgaAddr memory.GPA = 0xa0000

	// The BIOS read-only area is scanned for the RSDP (ACPI 6.5 §5.2.5.1).
	biosAddr  memory.GPA = 0xe0000
	rsdpAddr             = biosAddr
	acpiAddr  memory.GPA = 0xe0040
	mpcAddr   memory.GPA = 0xf0000
	resetAddr memory.GPA = 0xffff0 // F000:FFF0, where a processor starts and the BIOS is
	biosEnd   memory.GPA = 0x100000
	highStart            = biosEnd // first address that a kernel may be loaded at

	pageSize = memory.PageSize
)

// linuxMapped is where the page tables that a kernel starts with end: boot.rst
// asks for the kernel, the boot parameters and the command line, all of which
// are below 4 GiB.
const linuxMapped = memory.HoleEnd

// maxCmdline is the room for the command line, its NUL included. x86 kernels
// take 2048 bytes; this leaves room for those patched to take more.
const maxCmdline = 0x10000

// MaxCPUs is the most vCPUs that the tables here describe: xAPIC IDs are
// eight bits wide, 255 is the broadcast, and one more names the I/O APIC.
const MaxCPUs = 254

// Where every PC has its interrupt controllers, and KVM's in-kernel ones are.
const (
	localAPICAddr = 0xfee00000
	ioAPICAddr    = 0xfec00000
)
