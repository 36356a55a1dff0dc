package boot

import (
	"fmt"

	"offmap/guest/protocol"
	"offmap/memory"
)

// PayloadConfig says how a payload starts.
type PayloadConfig struct {
	CPUs int   // 1 to MaxCPUs
	Ring uint8 // privilege level: 0 or 3
	// Args are the payload's arguments, up to protocol.MaxArgs. Those that
	// aren't given are 0, which stands for the payload's default.
	Args []uint64
	// AVX lets the payload use AVX registers, which the vCPUs must have. Those
	// of SSE2 it always may.
	AVX bool
	// TSCKHz is the frequency of the vCPUs' TSC in kHz, 0 if it isn't known.
	TSCKHz int
}

// payloadMapped is the end of what a payload's page tables map at least: devices'
// registers are in the PCI hole below it.
const payloadMapped memory.GPA = 4 << 30

// Where a payload's surroundings lie; what follows the image depends on sizes:
// a stack for each vCPU, then the page tables, then RAM that is free.
const (
	payloadInfo  memory.GPA = 0x1000
	payloadGDT   memory.GPA = 0x2000
	payloadImage memory.GPA = 0x3000

	payloadStack = pageSize
)

// Payload puts a bare payload (guest/payload) into guest RAM, with page
// tables that map all RAM and the PCI hole onto itself, and returns the state of each vCPU.
// All of them are runnable from the start: with an in-kernel local APIC,
// vCPUs other than the first need KVM_SET_MP_STATE to say so.
//
// Everything that is placed lies at the start of the first RAM region, which
// must be at address 0.
func Payload(g memory.Guest, image []byte, cfg PayloadConfig) ([]CPU, error) {
	l := g.Layout()
	switch {
	case cfg.CPUs < 1 || cfg.CPUs > MaxCPUs:
		return nil, fmt.Errorf("%d vCPUs: a guest has 1 to %d", cfg.CPUs, MaxCPUs)
	case cfg.Ring != 0 && cfg.Ring != 3:
		return nil, fmt.Errorf("payload at privilege level %d: only 0 and 3 are supported", cfg.Ring)
	case len(cfg.Args) > protocol.MaxArgs:
		return nil, fmt.Errorf("%d arguments: a payload has up to %d", len(cfg.Args), protocol.MaxArgs)
	case len(l) == 0 || l[0].Start != 0:
		return nil, fmt.Errorf("guest RAM %v: a payload needs it to start at 0", l)
	}
	stacks := uint64(payloadImage) + alignUp(uint64(len(image)), pageSize)
	paging := stacks + uint64(cfg.CPUs)*payloadStack
	top := max(l.Top(), payloadMapped)
	free := paging + tablesSize(top)
	if free >= uint64(l[0].End()) {
		return nil, fmt.Errorf("payload of %d bytes with %d vCPUs takes %d bytes of RAM and must leave some: the first region has %d",
			len(image), cfg.CPUs, free, l[0].Size)
	}

	info := protocol.Info{RAM: l.Size(), CPUs: uint32(cfg.CPUs), TSC: uint64(cfg.TSCKHz)}
	copy(info.Args[:], cfg.Args)
	for _, r := range l {
		info.Free = append(info.Free, protocol.Range{Start: uint64(r.Start), End: uint64(r.End())})
	}
	info.Free[0].Start = free
	block := info.Encode()
	if len(block) > int(payloadGDT-payloadInfo) {
		return nil, fmt.Errorf("guest RAM has %d regions: too many for a payload's info block", len(l))
	}

	cr3, err := identity(g, memory.GPA(paging), top, cfg.Ring == 3)
	if err != nil {
		return nil, err
	}
	cpu, err := longMode(g, tables{gdt: payloadGDT, cr3: cr3, ring: cfg.Ring})
	if err != nil {
		return nil, err
	}
	cpu.CR4 |= cr4OSFXSR | cr4OSXMMEXCPT
	if cfg.AVX {
		cpu.CR4 |= cr4OSXSAVE
		cpu.XCR0 = xcr0X87 | xcr0SSE | xcr0AVX
	}
	if err := write(g, payloadInfo, block, "payload info"); err != nil {
		return nil, err
	}
	if err := write(g, payloadImage, image, "payload"); err != nil {
		return nil, err
	}
	cpu.RIP, cpu.RSI = uint64(payloadImage), uint64(payloadInfo)
	cpus := make([]CPU, cfg.CPUs)
	for i := range cpus {
		cpu.RDI = uint64(i)
		cpu.RSP = stacks + uint64(i+1)*payloadStack
		cpus[i] = cpu
	}
	return cpus, nil
}
