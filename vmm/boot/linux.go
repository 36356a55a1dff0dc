package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

// Image is the content of a file: a *bytes.Reader, or an *io.SectionReader of an
// open file.
type Image interface {
	io.ReaderAt
	Size() int64 // bytes
}

// imageReader returns an Image as the reader that this package works with, nil for
// none.
func imageReader(i Image) *io.SectionReader {
	if i == nil {
		return nil
	}
	return io.NewSectionReader(i, 0, i.Size())
}

// LinuxConfig describes a Linux guest.
type LinuxConfig struct {
	Kernel  Image  // bzImage or ELF64 vmlinux
	Initrd  Image  // nil for none
	Cmdline string // the whole command line
	Words   string // LinuxLoader puts them after its default command line
	CPUs    int    // 1 to MaxCPUs
	// OnCmdline, if not nil, is called by LinuxLoader with the command line,
	// before the kernel is read.
	OnCmdline func(cmdline string)
}

// Linux puts a kernel, its initrd, command line, boot parameters, ACPI and MP
// tables, page tables and GDT into guest RAM and returns the state of the
// bootstrap processor at the kernel's 64-bit entry point
// (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). The other
// processors wait for a start-up IPI, as KVM's do from the start.
//
// Images are copied in chunks, so that a file is never in the VMM's memory as a
// whole.
func Linux(g memory.Guest, cfg LinuxConfig) (CPU, error) {
	if cfg.CPUs < 1 || cfg.CPUs > MaxCPUs {
		return CPU{}, fmt.Errorf("%d vCPUs: a guest has 1 to %d", cfg.CPUs, MaxCPUs)
	}
	kernelImage, initrdImage := imageReader(cfg.Kernel), imageReader(cfg.Initrd)
	if kernelImage == nil {
		return CPU{}, errors.New("no kernel image")
	}
	ram, err := e820(g.Layout())
	if err != nil {
		return CPU{}, err
	}
	top := min(g.Layout()[0].End(), memory.HoleEnd)

	// First all that can be wrong with the input, then the copying.
	k, err := parseKernel(kernelImage)
	if err != nil {
		return CPU{}, err
	}
	if err := k.check(top); err != nil {
		return CPU{}, err
	}
	if err := checkCmdline(cfg.Cmdline, k.cmdlineMax); err != nil {
		return CPU{}, err
	}
	initrd, err := placeInitrd(k, initrdImage, top)
	if err != nil {
		return CPU{}, err
	}

	if err := k.load(g, kernelImage); err != nil {
		return CPU{}, err
	}
	if initrdImage != nil {
		if err := stream(g, initrd, initrdImage, "initrd"); err != nil {
			return CPU{}, err
		}
	}
	if err := write(g, cmdlineAddr, append([]byte(cfg.Cmdline), 0), "command line"); err != nil {
		return CPU{}, err
	}
	if err := writeZeroPage(g, k, initrdImage, initrd, ram); err != nil {
		return CPU{}, err
	}
	if err := writeFirmware(g, cfg.CPUs); err != nil {
		return CPU{}, err
	}

	cr3, err := identity(g, tablesAddr, linuxMapped, false)
	if err != nil {
		return CPU{}, err
	}
	cpu, err := longMode(g, tables{gdt: gdtAddr, cr3: cr3})
	if err != nil {
		return CPU{}, err
	}
	cpu.RIP, cpu.RSI, cpu.RSP = uint64(k.entry), uint64(zeroPageAddr), uint64(stackTop)
	return cpu, nil
}

// placeInitrd returns where the initrd goes: as high as it may, so that it is
// out of the way of the kernel's unpacking.
func placeInitrd(k *kernel, initrd *io.SectionReader, top memory.GPA) (memory.GPA, error) {
	if initrd == nil {
		return 0, nil
	}
	size := uint64(initrd.Size())
	if size == 0 {
		return 0, errors.New("initrd is empty")
	}
	// k.end is at most top; initrd_addr_max may be anything.
	limit := min(uint64(top), k.initrdMax+1)
	if limit < uint64(k.end) || limit-uint64(k.end) < size {
		return 0, fmt.Errorf("initrd of %d bytes doesn't fit: the kernel takes RAM up to %s and the initrd must end by 0x%x", size, k.end, limit)
	}
	at := memory.GPA((limit - size) &^ (pageSize - 1))
	if at < k.end {
		return 0, fmt.Errorf("initrd of %d bytes doesn't fit on whole pages between %s and 0x%x", size, k.end, limit)
	}
	return at, nil
}

// writeZeroPage writes struct boot_params, "the zero page", and the words of
// the BIOS data area that go with the memory map.
func writeZeroPage(g memory.Guest, k *kernel, initrd *io.SectionReader, initrdAt memory.GPA, ram []bootparam.E820Entry) error {
	p := k.params
	p.Hdr.TypeOfLoader = loaderUndefined
	p.Hdr.VidMode = videoNormal
	p.Hdr.CmdlinePtr = uint32(cmdlineAddr)
	p.Hdr.SetupData = 0
	p.Hdr.RamdiskImage, p.Hdr.RamdiskSize = 0, 0
	if initrd != nil {
		p.Hdr.RamdiskImage = uint32(initrdAt)
		p.Hdr.RamdiskSize = uint32(initrd.Size())
	}
	for _, e := range ram { // e820 has made sure that they fit
		p.AddE820Entry(e.Addr, e.Size, e.Type)
	}
	binary.LittleEndian.PutUint64(p.Padding[paramsRSDP:], uint64(rsdpAddr))
	b, err := p.Bytes()
	if err != nil {
		return fmt.Errorf("boot parameters: %w", err)
	}
	if err := write(g, zeroPageAddr, b, "boot parameters"); err != nil {
		return err
	}
	bda := func(at memory.GPA, v uint16) error {
		return write(g, at, binary.LittleEndian.AppendUint16(nil, v), "BIOS data area")
	}
	return errors.Join(bda(bdaEBDASegment, uint16(ebdaAddr>>4)), bda(bdaBaseMemory, uint16(ebdaAddr>>10)))
}

// paramsRSDP is the offset of acpi_rsdp_addr in struct boot_params
// (Documentation/arch/x86/zero-page.rst).
const paramsRSDP = 0x70

func checkCmdline(s string, limit uint64) error {
	if strings.IndexByte(s, 0) >= 0 {
		return errors.New("command line has a NUL byte in it")
	}
	if limit = min(limit, maxCmdline-1); uint64(len(s)) > limit {
		return fmt.Errorf("command line is %d bytes long, and this kernel takes %d", len(s), limit)
	}
	return nil
}
