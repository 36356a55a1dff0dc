package boot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

const (
	ehdrSize = 64 // bytes of an ELF64 header
	phdrSize = 56 // and of a program header
	// maxPhdrs is far more than any kernel has, and keeps a hostile file
	// from having us copy without end.
	maxPhdrs = 64

	// What a vmlinux has no setup header to say: the values that x86-64
	// kernels have in theirs (arch/x86/boot/header.S).
	elfProtocol   = 0x020f
	elfCmdlineMax = 2047
	elfInitrdMax  = 1<<31 - 1
	elfAlignment  = 2 << 20
)

// parseELF reads the headers of an ELF64 vmlinux. It is loaded at its physical
// addresses and entered at e_entry, which for x86-64 kernels is the physical
// address of startup_64: the same entry point that a bzImage's decompressor
// jumps to, with the boot parameters in RSI.
//
// debug/elf's types are used but not its reader, which reads sections that
// nobody needs and isn't meant for hostile files.
func parseELF(r *io.SectionReader) (*kernel, error) {
	var h elf.Header64
	if err := readStruct(r, 0, ehdrSize, &h); err != nil {
		return nil, fmt.Errorf("ELF kernel: header: %w", err)
	}
	switch {
	case elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64,
		elf.Data(h.Ident[elf.EI_DATA]) != elf.ELFDATA2LSB,
		elf.Machine(h.Machine) != elf.EM_X86_64:
		return nil, errors.New("ELF kernel is not for x86-64")
	case elf.Type(h.Type) != elf.ET_EXEC:
		return nil, fmt.Errorf("ELF kernel has type %v; a vmlinux has %v", elf.Type(h.Type), elf.ET_EXEC)
	case h.Phentsize < phdrSize || h.Phnum == 0 || h.Phnum > maxPhdrs:
		return nil, fmt.Errorf("ELF kernel has %d program headers of %d bytes: expected 1 to %d of at least %d", h.Phnum, h.Phentsize, maxPhdrs, phdrSize)
	}

	k := &kernel{
		params:     &bootparam.BootParam{},
		start:      kernelAddressMax,
		entry:      memory.GPA(h.Entry),
		initrdMax:  elfInitrdMax,
		cmdlineMax: elfCmdlineMax,
	}
	k.params.Hdr = bootparam.SetupHeader{
		BootFlag: bootFlag, Header: bootparam.MagicSignature, Version: elfProtocol,
		LoadFlags: bootparam.LoadedHigh, KernelAlignment: elfAlignment,
		InitrdAddrMax: elfInitrdMax, CmdlineSize: elfCmdlineMax, XloadFlags: xlfKernel64,
	}
	for i := range uint64(h.Phnum) {
		var p elf.Prog64
		if err := readStruct(r, h.Phoff+i*uint64(h.Phentsize), phdrSize, &p); err != nil {
			return nil, fmt.Errorf("ELF kernel: program header %d: %w", i, err)
		}
		if elf.ProgType(p.Type) != elf.PT_LOAD || p.Memsz == 0 {
			continue
		}
		fileEnd := p.Off + p.Filesz
		memEnd := p.Paddr + p.Memsz
		switch {
		case p.Filesz > p.Memsz:
			return nil, fmt.Errorf("ELF kernel: segment %d has more bytes in the file (%d) than in memory (%d)", i, p.Filesz, p.Memsz)
		case p.Filesz > 0 && (fileEnd < p.Off || fileEnd > uint64(r.Size())):
			return nil, fmt.Errorf("ELF kernel is truncated: segment %d has %d bytes at offset %d of a file of %d", i, p.Filesz, p.Off, r.Size())
		case memEnd < p.Paddr || memEnd > kernelAddressMax:
			return nil, fmt.Errorf("ELF kernel: segment %d, %d bytes at 0x%x, ends beyond 4 GiB", i, p.Memsz, p.Paddr)
		}
		if p.Filesz > 0 {
			k.parts = append(k.parts, part{offset: p.Off, size: p.Filesz, at: memory.GPA(p.Paddr)})
		}
		k.start = min(k.start, memory.GPA(p.Paddr))
		k.end = max(k.end, memory.GPA(memEnd))
	}
	if k.entry < k.start || k.entry >= k.end {
		return nil, fmt.Errorf("ELF kernel's entry point %s is in none of its segments", k.entry)
	}
	return k, nil
}

// readStruct decodes size bytes at off.
func readStruct(r *io.SectionReader, off, size uint64, v any) error {
	if off > uint64(r.Size()) || size > uint64(r.Size())-off {
		return io.ErrUnexpectedEOF
	}
	return binary.Read(io.NewSectionReader(r, int64(off), int64(size)), binary.LittleEndian, v)
}
