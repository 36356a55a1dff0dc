package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errKept says that a module stays as it is.
var errKept = errors.New("nothing to leave out")

// signed ends a module that has a signature (Documentation/admin-guide/module-signing.rst).
const signed = "~Module signature appended~\n"

// withoutDebug returns a kernel module without its debugging information, which is most
// of a module from a build tree. The sections keep their numbers, since symbols and
// relocations refer to these, and those left out become empty. The content is that of
// the module, so nothing is copied. A module without such sections, a signed one, and
// what is no module at all give an error.
func withoutDebug(module io.ReaderAt, size int64) (*io.SectionReader, error) {
	end := make([]byte, len(signed))
	if _, err := module.ReadAt(end, size-int64(len(end))); err != nil || string(end) == signed {
		return nil, errKept
	}
	var head elf.Header64
	order := binary.LittleEndian
	if err := binary.Read(io.NewSectionReader(module, 0, size), order, &head); err != nil {
		return nil, err
	}
	switch {
	case string(head.Ident[:6]) != elf.ELFMAG+"\x02\x01", // 64 bits, little-endian
		elf.Type(head.Type) != elf.ET_REL, head.Shentsize != sectionSize, head.Phnum != 0,
		head.Shstrndx >= head.Shnum, head.Shoff > uint64(size):
		return nil, fmt.Errorf("%w: not a module", errKept)
	}
	sections := make([]elf.Section64, head.Shnum)
	if err := binary.Read(io.NewSectionReader(module, int64(head.Shoff), size-int64(head.Shoff)), order, sections); err != nil {
		return nil, err
	}
	for _, s := range sections {
		if s.Off > uint64(size) || hasContent(s) && s.Size > uint64(size)-s.Off || s.Addralign > maxAlign || s.Addralign&(s.Addralign-1) != 0 {
			return nil, fmt.Errorf("%w: a section can't be where it is", errKept)
		}
	}
	table := sections[head.Shstrndx]
	if !hasContent(table) || table.Size > maxNames {
		return nil, fmt.Errorf("%w: the sections have no names", errKept)
	}
	names := make([]byte, table.Size)
	if _, err := module.ReadAt(names, int64(table.Off)); err != nil {
		return nil, err
	}

	var kept pieces
	at := int64(binary.Size(head))
	left := false
	for i := range sections {
		s := &sections[i]
		if isDebug(*s, names) {
			*s = elf.Section64{Name: s.Name} // SHT_NULL
			left = true
			continue
		}
		if !hasContent(*s) {
			continue
		}
		if s.Addralign > 1 {
			pad := -at & (int64(s.Addralign) - 1)
			kept.Write(make([]byte, pad))
			at += pad
		}
		kept.add(io.NewSectionReader(module, int64(s.Off), int64(s.Size)), int64(s.Size))
		s.Off = uint64(at)
		at += int64(s.Size)
	}
	if !left {
		return nil, errKept
	}
	pad := -at & 7
	kept.Write(make([]byte, pad))
	head.Shoff = uint64(at + pad)
	if err := binary.Write(&kept, order, sections); err != nil {
		return nil, err
	}
	body := kept.reader()
	var whole pieces
	if err := binary.Write(&whole, order, head); err != nil {
		return nil, err
	}
	whole.add(body, body.Size())
	r := whole.reader()
	if r.Size() > size { // sections overlap
		return nil, errKept
	}
	return r, nil
}

const (
	sectionSize = 64      // bytes of an entry of the section header table
	maxAlign    = 4096    // bytes to which a section is aligned; more is nothing that a kernel loads
	maxNames    = 1 << 20 // bytes of the names of sections
)

// hasContent reports whether a section takes room in the file.
func hasContent(s elf.Section64) bool {
	return elf.SectionType(s.Type) != elf.SHT_NOBITS && elf.SectionType(s.Type) != elf.SHT_NULL
}

// isDebug reports whether a section is debugging information, or relocations for it.
func isDebug(s elf.Section64, names []byte) bool {
	if s.Name >= uint32(len(names)) || elf.SectionFlag(s.Flags)&elf.SHF_ALLOC != 0 {
		return false
	}
	name, _, _ := bytes.Cut(names[s.Name:], []byte{0})
	return strings.HasPrefix(strings.TrimPrefix(string(name), ".rela"), ".debug_")
}
