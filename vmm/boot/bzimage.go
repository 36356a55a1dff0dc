package boot

import (
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

// Constants of the setup header, Documentation/arch/x86/boot.rst, "The
// Real-Mode Kernel Header".
const (
	bootFlag         = 0xaa55
	protocolMin      = 0x020c // first with xloadflags
	xlfKernel64      = 1 << 0 // 64-bit entry point at 0x200
	entry64          = 0x200
	defaultSects     = 4
	sectorSize       = 512
	headerBase       = 0x202  // the jump's displacement counts from here
	headerEndMin     = 0x264  // end of init_size
	headerEndInfo    = 0x26c  // end of kernel_info_offset
	loaderUndefined  = 0xff   // type_of_loader: no assigned id
	videoNormal      = 0xffff // vid_mode: "normal"
	paragraph        = 16     // bytes that syssize counts in
	cmdlineDefault   = 255    // bytes, where cmdline_size doesn't say
	kernelAddressMax = 1 << 32
)

// parseBzImage reads a bzImage's setup header. Every field is the file's word
// and is checked before it is used.
func parseBzImage(r *io.SectionReader) (*kernel, error) {
	p, err := bootparam.New(r)
	switch {
	case errors.Is(err, bootparam.ErrorSignatureNotMatch), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("kernel image is neither a bzImage nor an ELF file")
	case errors.Is(err, bootparam.ErrorOldProtocolVersion):
		return nil, fmt.Errorf("kernel image: %w; at least 0x%x is needed", err, protocolMin)
	case err != nil:
		return nil, fmt.Errorf("kernel image: %w", err)
	}
	h := &p.Hdr
	end := headerBase + uint32(h.Jump>>8)
	switch {
	case h.BootFlag != bootFlag:
		return nil, fmt.Errorf("bzImage: boot flag is 0x%x, not 0x%x", h.BootFlag, bootFlag)
	case h.Version < protocolMin:
		return nil, fmt.Errorf("bzImage: boot protocol 0x%x is too old, at least 0x%x is needed", h.Version, protocolMin)
	case end < headerEndMin:
		return nil, fmt.Errorf("bzImage: setup header ends at 0x%x, before init_size", end)
	case h.LoadFlags&bootparam.LoadedHigh == 0:
		return nil, errors.New("bzImage: not one that is loaded at 1 MiB or above")
	case h.XloadFlags&xlfKernel64 == 0:
		return nil, errors.New("bzImage: no 64-bit entry point; a 64-bit kernel is needed")
	}

	sects := uint64(h.SetupSects)
	if sects == 0 {
		sects = defaultSects
	}
	code := part{offset: (sects + 1) * sectorSize, size: uint64(h.SysSize) * paragraph}
	// The last paragraph need not be whole: memtest86+'s isn't.
	codeEnd := code.offset + code.size
	missing := codeEnd - min(codeEnd, uint64(r.Size()))
	switch {
	case missing >= paragraph:
		return nil, fmt.Errorf("bzImage is truncated: %d bytes, its header says %d", r.Size(), codeEnd)
	case code.size <= entry64+missing:
		return nil, fmt.Errorf("bzImage: %d bytes of protected-mode code leave no room for the entry point", code.size)
	}
	code.size -= missing

	start := h.PrefAddress
	if start == 0 { // it prefers none
		start = uint64(highStart)
	}
	if start >= kernelAddressMax {
		return nil, fmt.Errorf("bzImage: preferred address 0x%x is beyond 4 GiB", start)
	}
	if align := uint64(h.KernelAlignment); h.RelocatableKernel != 0 && align != 0 {
		if bits.OnesCount64(align) != 1 {
			return nil, fmt.Errorf("bzImage: kernel alignment 0x%x is no power of two", align)
		}
		start = alignUp(start, align)
	}
	cmdlineMax := uint64(h.CmdlineSize)
	if cmdlineMax == 0 {
		cmdlineMax = cmdlineDefault
	}
	code.at = memory.GPA(start)

	// The header is copied into the boot parameters, up to where this
	// kernel's ends.
	if end < headerEndInfo {
		h.KernelInfoOffset = 0
	}
	return &kernel{
		params:     p,
		parts:      []part{code},
		start:      code.at,
		end:        code.at + memory.GPA(max(uint64(h.InitSize), code.size)),
		entry:      code.at + entry64,
		initrdMax:  uint64(h.InitrdAddrMax),
		cmdlineMax: cmdlineMax,
	}, nil
}
