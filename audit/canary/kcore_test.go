package canary

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// core writes an ELF core as the kernel does: a header, program headers, no
// sections. Offsets in progs are kept as they are.
func core(t testing.TB, machine elf.Machine, progs ...elf.Prog64) []byte {
	t.Helper()
	var b bytes.Buffer
	h := elf.Header64{
		Type: uint16(elf.ET_CORE), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(progs)),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	h.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	h.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	for _, v := range []any{h, progs} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// load is a segment of /proc/kcore, whose offset is its address less that of
// the direct map, give or take the headers.
func load(vaddr, paddr, size uint64) elf.Prog64 {
	return elf.Prog64{
		Type: uint32(elf.PT_LOAD), Off: (vaddr-direct)&^(1<<63) + 8192,
		Vaddr: vaddr, Paddr: paddr, Filesz: size, Memsz: size, Align: 4096,
	}
}

// Addresses as in a kernel without KASLR, mm.rst.
const (
	direct  = 0xffff888000000000
	vmalloc = 0xffffc90000000000
	vmemmap = 0xffffea0000000000
	noPhys  = 1<<64 - 1
)

func TestParseKcore(t *testing.T) {
	text := load(0xffffffff81000000, 0x1000000, 0x2a00000)
	vm := load(vmalloc, noPhys, 0x1fffffffffff)
	mods := load(0xffffffffc0000000, noPhys, 0x3f000000)
	low := load(direct+0x1000, 0x1000, 0x9e000)
	high := load(direct+0x100000, 0x100000, 0x7fee0000)
	mm := load(vmemmap, noPhys, 0x2000000)
	note := elf.Prog64{Type: uint32(elf.PT_NOTE), Off: 400, Filesz: 100}

	stock := core(t, elf.EM_X86_64, note, text, vm, mods, low, high, mm)
	want := []Range{
		{Off: int64(low.Off), Len: 0x9e000, Addr: 0x1000},
		{Off: int64(high.Off), Len: 0x7fee0000, Addr: 0x100000},
	}
	k, err := parseKcore(bytes.NewReader(stock))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(k.direct, want) || k.text != int64(text.Off) {
		t.Errorf("direct map %+x, text %#x; want %+x, %#x", k.direct, k.text, want, text.Off)
	}

	moved := high
	moved.Paddr += 0x1000
	for _, tt := range []struct {
		name, err string
		file      []byte
	}{
		{"empty", "EOF", nil},
		{"not ELF", "magic", []byte(strings.Repeat("x", 100))},
		{"truncated", "EOF", stock[:200]},
		{"other machine", "x86-64", core(t, elf.EM_AARCH64, text, low)},
		{"no physical addresses", "4.19", core(t, elf.EM_X86_64, text, vm, mm)},
		{"no text", "text", core(t, elf.EM_X86_64, vm, low, high)},
		{"two offsets", "not in line", core(t, elf.EM_X86_64, text, low, moved)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseKcore(bytes.NewReader(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want one with %q", err, tt.err)
			}
		})
	}
}

func FuzzParseKcore(f *testing.F) {
	f.Add(core(f, elf.EM_X86_64, load(0xffffffff81000000, 0x1000000, 4096), load(direct, 0, 4096)))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := parseKcore(bytes.NewReader(file))
		if err != nil {
			return
		}
		if len(k.direct) == 0 {
			t.Error("no error and no direct map")
		}
		// Whatever the file says, a scan of it ends.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := Scan(ctx, bytes.NewReader(file), k.direct, []Canary{fixed}, nil); errors.Is(err, context.DeadlineExceeded) {
			t.Error("scan goes on and on")
		}
	})
}

func TestExplainKcore(t *testing.T) {
	for _, tt := range []struct {
		errno unix.Errno
		fix   string
	}{
		{unix.ENOENT, "CONFIG_PROC_KCORE"},
		{unix.EPERM, "lockdown"},
		{unix.EACCES, "root"},
	} {
		err := explainKcore(&fs.PathError{Op: "open", Path: kcorePath, Err: tt.errno})
		if !errors.Is(err, tt.errno) || !strings.Contains(err.Error(), tt.fix) || !strings.Contains(err.Error(), kcorePath) {
			t.Errorf("%v: %v", tt.errno, err)
		}
	}
}

// TestScanKcore scans this machine's own direct map: for a canary that nobody
// has planted, and for one in pages of this process.
func TestScanKcore(t *testing.T) {
	if f, err := os.Open(kcorePath); err != nil {
		t.Skipf("SKIPPED, nothing was shown here: %v; run it in the lab: offmap lab", explainKcore(err))
	} else {
		f.Close()
	}
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	scan := func(what string, want int) {
		t.Helper()
		start := time.Now()
		hits, err := ScanKcore(t.Context(), []Canary{c}, nil)
		if err != nil {
			t.Fatal(err)
		}
		h := hits[0]
		t.Logf("%s: %d hits in %d pages, %d MiB in %v", what, h.Total, h.Pages, h.Scanned>>20, time.Since(start))
		if h.Total != want || h.Pages != want {
			t.Errorf("%s: %d hits in %d pages at %#x, want %d", what, h.Total, h.Pages, h.First, want)
		}
	}
	scan("not planted", 0)

	const pages = 1000
	mem, err := unix.Mmap(-1, 0, pages*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	// Else khugepaged may move the pages together and leave copies behind.
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != nil && err != unix.EINVAL {
		t.Fatal(err)
	}
	for p := 0; p < pages; p++ {
		c.Plant(mem[p*4096+64*(p%64):])
	}
	scan("planted", pages)
	clear(mem)
	scan("wiped", 0)
}
