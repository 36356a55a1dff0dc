package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

// module returns a relocatable file of sections (name: content), in this order. Those
// whose names begin with .text are to be loaded.
func module(t testing.TB, sections ...[2]string) []byte {
	t.Helper()
	names, body := "\x00", bytes.Repeat([]byte{0}, 64)
	table := make([]elf.Section64, 1)
	add := func(s elf.Section64, name, content string) {
		s.Name, s.Off, s.Size = uint32(len(names)), uint64(len(body)), uint64(len(content))
		names += name + "\x00"
		body = append(body, content...)
		table = append(table, s)
	}
	for _, s := range sections {
		one := elf.Section64{Type: uint32(elf.SHT_PROGBITS), Addralign: 8}
		if strings.HasPrefix(s[0], ".text") {
			one.Flags = uint64(elf.SHF_ALLOC)
		}
		add(one, s[0], s[1])
	}
	add(elf.Section64{Type: uint32(elf.SHT_NOBITS), Addralign: 4096}, ".bss", "")
	table[len(table)-1].Size = 1 << 40
	names += ".shstrtab\x00"
	add(elf.Section64{Type: uint32(elf.SHT_STRTAB)}, "", names)
	table[len(table)-1].Name = uint32(len(names) - len(".shstrtab\x00") - 1)
	h := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Shoff: uint64(len(body)),
		Ehsize: 64, Shentsize: 64, Shnum: uint16(len(table)), Shstrndx: uint16(len(table) - 1),
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	var out bytes.Buffer
	if err := binary.Write(&out, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	out.Write(body[64:])
	if err := binary.Write(&out, binary.LittleEndian, table); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestWithoutDebug leaves debugging information out, and nothing else.
func TestWithoutDebug(t *testing.T) {
	kept := [][2]string{{".text", "code!"}, {".modinfo", "depends=\x00"}, {".debug_info", strings.Repeat("x", 5000)},
		{".rela.text", "relocations"}, {".rela.debug_info", "more"}, {".text.debug_", "code, too"}, {".symtab", "symbols"}}
	b := module(t, kept...)
	r, err := withoutDebug(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() > int64(len(b))-4900 {
		t.Errorf("%d bytes of %d", r.Size(), len(b))
	}
	before, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	after, err := elf.NewFile(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Sections) != len(after.Sections) {
		t.Fatalf("%d sections, want %d: others refer to them by number", len(after.Sections), len(before.Sections))
	}
	for i, want := range before.Sections {
		got := after.Sections[i]
		debug := want.Name == ".debug_info" || want.Name == ".rela.debug_info"
		switch {
		case got.Name != want.Name:
			t.Errorf("section %d: %s, want %s", i, got.Name, want.Name)
		case debug && (got.Type != elf.SHT_NULL || got.Size != 0):
			t.Errorf("section %s: %v", want.Name, got.SectionHeader)
		case debug || want.Type == elf.SHT_NULL:
		case got.Type != want.Type || got.Flags != want.Flags || got.Size != want.Size || got.Addralign != want.Addralign:
			t.Errorf("section %s: %v, want %v", want.Name, got.SectionHeader, want.SectionHeader)
		case want.Type != elf.SHT_NOBITS:
			wantData, _ := want.Data()
			if data, err := got.Data(); err != nil || !bytes.Equal(data, wantData) || got.Addralign > 1 && got.Offset%got.Addralign != 0 {
				t.Errorf("section %s at %#x: %q, %v, want %q", want.Name, got.Offset, data, err, wantData)
			}
		}
	}
}

// TestModuleKept passes what has to stay as it is.
func TestModuleKept(t *testing.T) {
	plain, debug := module(t, [2]string{".text", "code"}), module(t, [2]string{".debug_info", "information"})
	for name, b := range map[string][]byte{
		"no debugging information": plain, "signed": append(bytes.Clone(debug), signed...),
		"no module": []byte("This is no module, but it is long enough to be taken for one."), "empty": nil,
		"cut short": debug[:len(debug)-1],
	} {
		if _, err := withoutDebug(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzWithoutDebug(f *testing.F) {
	f.Add(module(f, [2]string{".debug_info", "information"}, [2]string{".text", "code"}))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := withoutDebug(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if n, err := io.Copy(io.Discard, r); n != r.Size() || n > int64(len(b)) || err != nil {
			t.Errorf("%d bytes of %d, the module has %d, %v", n, r.Size(), len(b), err)
		}
	})
}
