package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

// Offsets in struct boot_params, Documentation/arch/x86/zero-page.rst, and in
// the setup header, boot.rst.
const (
	atRSDP        = 0x070
	atE820Count   = 0x1e8
	atSetupSects  = 0x1f1
	atSysSize     = 0x1f4
	atVidMode     = 0x1fa
	atBootFlag    = 0x1fe
	atJump        = 0x200
	atMagic       = 0x202
	atVersion     = 0x206
	atLoader      = 0x210
	atLoadFlags   = 0x211
	atRamdisk     = 0x218
	atRamdiskSize = 0x21c
	atCmdline     = 0x228
	atInitrdMax   = 0x22c
	atAlignment   = 0x230
	atRelocatable = 0x234
	atXloadFlags  = 0x236
	atCmdlineSize = 0x238
	atSetupData   = 0x250
	atPrefAddress = 0x258
	atInitSize    = 0x260
	atKernelInfo  = 0x268
	atE820        = 0x2d0
)

const testCode = 64 << 10 // bytes of protected-mode code in a test's bzImage

// bzImage makes one with Debian 6.1's header values and a recognizable body,
// after edit has had its way with it.
func bzImage(edit func(b []byte)) []byte {
	b := make([]byte, 2*512+testCode)
	for i := 1024; i < len(b); i++ {
		b[i] = byte(i*7 ^ i>>8)
	}
	b[atSetupSects] = 1
	le.PutUint32(b[atSysSize:], testCode/16)
	le.PutUint16(b[atBootFlag:], 0xaa55)
	le.PutUint16(b[atJump:], 0x6aeb) // header ends at 0x26c
	copy(b[atMagic:], "HdrS")
	le.PutUint16(b[atVersion:], 0x20f)
	b[atLoadFlags] = 1
	le.PutUint32(b[atInitrdMax:], 0x7fffffff)
	le.PutUint32(b[atAlignment:], 0x200000)
	b[atRelocatable] = 1
	le.PutUint16(b[atXloadFlags:], 0x7f)
	le.PutUint32(b[atCmdlineSize:], 2047)
	le.PutUint64(b[atSetupData:], 0xdeadbeef)
	le.PutUint64(b[atPrefAddress:], 0x1000000)
	le.PutUint32(b[atInitSize:], 0x3378000)
	le.PutUint32(b[atKernelInfo:], 0xd7f91c)
	if edit != nil {
		edit(b)
	}
	return b
}

// vmlinux makes an ELF kernel of two segments: 8 KiB at 16 MiB, and a page of
// data followed by 1 MiB of zeros at 17 MiB.
func vmlinux(edit func(h *elf.Header64, p []elf.Prog64)) []byte {
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Entry: 0x1000040,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 3,
	}
	copy(h.Ident[:], "\x7fELF\x02\x01\x01")
	p := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Off: 0x1000, Vaddr: 0xffffffff81000000, Paddr: 0x1000000, Filesz: 0x2000, Memsz: 0x2000},
		{Type: uint32(elf.PT_NOTE), Off: 1 << 60, Filesz: 1 << 60},
		{Type: uint32(elf.PT_LOAD), Off: 0x3000, Vaddr: 0xffffffff81100000, Paddr: 0x1100000, Filesz: 0x1000, Memsz: 0x101000},
	}
	if edit != nil {
		edit(&h, p)
	}
	var w bytes.Buffer
	binary.Write(&w, le, h)
	binary.Write(&w, le, p)
	b := make([]byte, 0x4000)
	for i := range b {
		b[i] = byte(i*5 ^ i>>8)
	}
	copy(b, w.Bytes())
	return b
}

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

func TestBootBzImage(t *testing.T) {
	g := pc(t, 5<<30)
	image, initrd := bzImage(nil), bytes.Repeat([]byte("initrd "), 100_000)
	const cmdline = "console=ttyS0 quiet"
	cpu, err := Linux(g, LinuxConfig{Kernel: section(image), Initrd: section(initrd), Cmdline: cmdline, CPUs: 2})
	if err != nil {
		t.Fatal(err)
	}

	if cpu.RIP != 0x1000200 || cpu.RFLAGS != 2 {
		t.Errorf("RIP %#x, RFLAGS %#x", cpu.RIP, cpu.RFLAGS)
	}
	if !bytes.Equal(g.bytes(t, 0x1000000, testCode), image[1024:]) {
		t.Error("the kernel isn't where it should be")
	}

	zp := g.bytes(t, memory.GPA(cpu.RSI), 4096)
	for _, v := range []struct {
		what      string
		got, want uint64
	}{
		{"RSDP", le.Uint64(zp[atRSDP:]), 0xe0000},
		{"sentinel", uint64(zp[0x1ef]), 0},
		{"vid_mode", uint64(le.Uint16(zp[atVidMode:])), 0xffff},
		{"boot flag", uint64(le.Uint16(zp[atBootFlag:])), 0xaa55},
		{"version", uint64(le.Uint16(zp[atVersion:])), 0x20f},
		{"loader", uint64(zp[atLoader]), 0xff},
		{"loadflags", uint64(zp[atLoadFlags]), 1},
		{"ramdisk_size", uint64(le.Uint32(zp[atRamdiskSize:])), uint64(len(initrd))},
		{"setup_data", le.Uint64(zp[atSetupData:]), 0},
		{"init_size", uint64(le.Uint32(zp[atInitSize:])), 0x3378000},
		{"kernel_info", uint64(le.Uint32(zp[atKernelInfo:])), 0xd7f91c},
		{"e820 entries", uint64(zp[atE820Count]), 5},
		{"first entry's size", le.Uint64(zp[atE820+8:]), 0x9fc00},
		{"last entry's start", le.Uint64(zp[atE820+4*20:]), 4 << 30},
		{"last entry's size", le.Uint64(zp[atE820+4*20+8:]), 2 << 30},
		{"last entry's type", uint64(le.Uint32(zp[atE820+4*20+16:])), 1},
		{"EBDA segment", uint64(le.Uint16(g.bytes(t, 0x40e, 2))), 0x9fc0},
		{"base memory", uint64(le.Uint16(g.bytes(t, 0x413, 2))), 639},
	} {
		if v.got != v.want {
			t.Errorf("%s is %#x, want %#x", v.what, v.got, v.want)
		}
	}
	line := g.bytes(t, memory.GPA(le.Uint32(zp[atCmdline:])), len(cmdline)+1)
	if string(line) != cmdline+"\x00" {
		t.Errorf("command line %q", line)
	}
	at := memory.GPA(le.Uint32(zp[atRamdisk:]))
	if at%4096 != 0 || uint64(at)+uint64(len(initrd)) > 1<<31 || uint64(at)+uint64(len(initrd)) <= 1<<31-4096 {
		t.Errorf("initrd at %s isn't as high as it may be", at)
	}
	if !bytes.Equal(g.bytes(t, at, len(initrd)), initrd) {
		t.Error("initrd is damaged")
	}
	findACPI(t, g)
	for _, a := range []uint64{cpu.RIP, cpu.RSI, cpu.RSP - 8, uint64(at), 3<<30 - 1} {
		if phys, user, ok := g.translate(t, cpu, a); !ok || phys != a || user {
			t.Errorf("%#x maps to %#x, user %v, %v", a, phys, user, ok)
		}
	}
}

// A header that ends before kernel_info_offset doesn't bring code with it.
func TestOldHeader(t *testing.T) {
	g := pc(t, 128<<20)
	image := bzImage(func(b []byte) { le.PutUint16(b[atJump:], 0x66eb); le.PutUint16(b[atVersion:], 0x20e) })
	if _, err := Linux(g, LinuxConfig{Kernel: section(image), CPUs: 1}); err != nil {
		t.Fatal(err)
	}
	if v := le.Uint32(g.bytes(t, zeroPageAddr+atKernelInfo, 4)); v != 0 {
		t.Errorf("kernel_info_offset is %#x", v)
	}
}

func TestBootELF(t *testing.T) {
	g := pc(t, 64<<20)
	image := vmlinux(nil)
	cpu, err := Linux(g, LinuxConfig{Kernel: section(image), Initrd: section([]byte("x")), Cmdline: "x", CPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	if cpu.RIP != 0x1000040 {
		t.Errorf("RIP %#x", cpu.RIP)
	}
	if !bytes.Equal(g.bytes(t, 0x1000000, 0x2000), image[0x1000:0x3000]) ||
		!bytes.Equal(g.bytes(t, 0x1100000, 0x1000), image[0x3000:]) {
		t.Error("segments are damaged")
	}
	zp := g.bytes(t, zeroPageAddr, 4096)
	if string(zp[atMagic:atMagic+4]) != "HdrS" || le.Uint16(zp[atBootFlag:]) != 0xaa55 || zp[atLoader] != 0xff {
		t.Error("no setup header")
	}
	if got := le.Uint32(zp[atRamdisk:]); got != 64<<20-4096 {
		t.Errorf("initrd at %#x", got)
	}
}

func TestParseKernel(t *testing.T) {
	tests := []struct {
		name              string
		image             []byte
		start, end, entry memory.GPA
	}{
		{"bzImage", bzImage(nil), 0x1000000, 0x4378000, 0x1000200},
		{"bzImage, aligned up", bzImage(func(b []byte) { le.PutUint64(b[atPrefAddress:], 0x1100000) }), 0x1200000, 0x4578000, 0x1200200},
		{"bzImage, fixed", bzImage(func(b []byte) { le.PutUint64(b[atPrefAddress:], 0x1100000); b[atRelocatable] = 0 }), 0x1100000, 0x4478000, 0x1100200},
		{"bzImage, last paragraph not whole", bzImage(nil)[:1024+testCode-15], 0x1000000, 0x4378000, 0x1000200},
		{"bzImage, prefers no address", bzImage(func(b []byte) { le.PutUint64(b[atPrefAddress:], 0); le.PutUint32(b[atAlignment:], 0x1000) }), 0x100000, 0x3478000, 0x100200},
		{"bzImage, prefers no address, fixed", bzImage(func(b []byte) { le.PutUint64(b[atPrefAddress:], 0); b[atRelocatable] = 0 }), 0x100000, 0x3478000, 0x100200},
		{"bzImage, aligned to a paragraph", bzImage(func(b []byte) { le.PutUint64(b[atPrefAddress:], 0x1100001); le.PutUint32(b[atAlignment:], 16) }), 0x1100010, 0x4478010, 0x1100210},
		{"bzImage, alignment 0", bzImage(func(b []byte) { le.PutUint32(b[atAlignment:], 0) }), 0x1000000, 0x4378000, 0x1000200},
		{"bzImage, init_size too small", bzImage(func(b []byte) { le.PutUint32(b[atInitSize:], 1) }), 0x1000000, 0x1000000 + testCode, 0x1000200},
		{"ELF", vmlinux(nil), 0x1000000, 0x1201000, 0x1000040},
		{"ELF, bss at an offset beyond the file", vmlinux(func(h *elf.Header64, p []elf.Prog64) { p[2].Off, p[2].Filesz = 1<<40, 0 }), 0x1000000, 0x1201000, 0x1000040},
		{"ELF, not in order", vmlinux(func(h *elf.Header64, p []elf.Prog64) { p[0], p[2] = p[2], p[0] }), 0x1000000, 0x1201000, 0x1000040},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := parseKernel(section(tt.image))
			if err != nil {
				t.Fatal(err)
			}
			if k.start != tt.start || k.end != tt.end || k.entry != tt.entry {
				t.Errorf("from %s to %s, entry %s; want %s, %s, %s", k.start, k.end, k.entry, tt.start, tt.end, tt.entry)
			}
		})
	}
}

func TestPlaceInitrd(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name            string
		end, top        memory.GPA
		max, size, want uint64
	}{
		{"below the top of RAM", 32 * mib, 128 * mib, 1<<31 - 1, 5000, 128*mib - 8192},
		{"below what the kernel reaches", 32 * mib, 3 << 30, 1<<31 - 1, 4096, 1<<31 - 4096},
		{"all of RAM", 32 * mib, 3 << 30, 1<<32 - 1, 4096, 3<<30 - 4096},
		{"just fits", 32 * mib, 33 * mib, 1<<31 - 1, mib, 32 * mib},
		{"a byte too many", 32 * mib, 33 * mib, 1<<31 - 1, mib + 1, 0},
		{"fits but for alignment", 32*mib + 1, 33 * mib, 1<<31 - 1, mib - 1, 0},
		{"reaches less than the kernel takes", 32 * mib, 128 * mib, mib, 4096, 0},
		{"reaches nothing", 32 * mib, 128 * mib, 0, 1, 0},
		{"empty", 32 * mib, 128 * mib, 1<<31 - 1, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := &kernel{end: tt.end, initrdMax: tt.max}
			got, err := placeInitrd(k, io.NewSectionReader(nil, 0, int64(tt.size)), tt.top)
			if (err == nil) != (tt.want != 0) || uint64(got) != tt.want {
				t.Errorf("at %#x, %v; want %#x", uint64(got), err, tt.want)
			}
		})
	}
}

// Every way in which an image can be wrong has its own words.
func TestBadInput(t *testing.T) {
	bz := func(edit func(b []byte)) LinuxConfig { return LinuxConfig{Kernel: section(bzImage(edit)), CPUs: 1} }
	el := func(edit func(h *elf.Header64, p []elf.Prog64)) LinuxConfig {
		return LinuxConfig{Kernel: section(vmlinux(edit)), CPUs: 1}
	}
	good := bzImage(nil)
	tests := []struct {
		name string
		cfg  LinuxConfig
		want string
	}{
		{"no kernel", LinuxConfig{CPUs: 1}, "no kernel"},
		{"no CPUs", LinuxConfig{Kernel: section(good)}, "0 vCPUs"},
		{"too many CPUs", LinuxConfig{Kernel: section(good), CPUs: 255}, "1 to 254"},
		{"empty file", LinuxConfig{Kernel: section(nil), CPUs: 1}, "neither a bzImage nor an ELF"},
		{"text file", LinuxConfig{Kernel: section(bytes.Repeat([]byte("text\n"), 1000)), CPUs: 1}, "neither a bzImage nor an ELF"},
		{"header cut off", LinuxConfig{Kernel: section(good[:0x210]), CPUs: 1}, "neither a bzImage nor an ELF"},
		{"code cut off", LinuxConfig{Kernel: section(good[:len(good)-16]), CPUs: 1}, "truncated: 66544 bytes, its header says 66560"},
		{"old", bz(func(b []byte) { le.PutUint16(b[atVersion:], 0x205) }), "at least 0x20c"},
		{"rather old", bz(func(b []byte) { le.PutUint16(b[atVersion:], 0x20b) }), "0x20b is too old, at least 0x20c"},
		{"no boot flag", bz(func(b []byte) { b[atBootFlag] = 0 }), "boot flag is 0xaa00"},
		{"short header", bz(func(b []byte) { b[atJump+1] = 0x10 }), "ends at 0x212"},
		{"zImage", bz(func(b []byte) { b[atLoadFlags] = 0 }), "1 MiB or above"},
		{"32-bit", bz(func(b []byte) { b[atXloadFlags] = 0x7e }), "64-bit kernel is needed"},
		{"no code", bz(func(b []byte) { le.PutUint32(b[atSysSize:], 0x20) }), "512 bytes of protected-mode code"},
		{"no code, and the setup is cut off", LinuxConfig{Kernel: section(bzImage(func(b []byte) { le.PutUint32(b[atSysSize:], 0) })[:1023]), CPUs: 1}, "0 bytes of protected-mode code"},
		{"huge", bz(func(b []byte) { le.PutUint32(b[atSysSize:], 1<<32-1) }), "truncated"},
		{"odd alignment", bz(func(b []byte) { le.PutUint32(b[atAlignment:], 0x201000) }), "kernel alignment 0x201000"},
		{"preferred too low", bz(func(b []byte) { le.PutUint64(b[atPrefAddress:], 0x90000); b[atRelocatable] = 0 }), "below 1 MiB"},
		{"preferred too high", bz(func(b []byte) { le.PutUint64(b[atPrefAddress:], 1<<63) }), "beyond 4 GiB"},
		{"preferred beyond RAM", bz(func(b []byte) { le.PutUint64(b[atPrefAddress:], 1<<32-1) }), "give the guest more than"},
		{"needs more RAM", bz(func(b []byte) { le.PutUint32(b[atInitSize:], 240<<20+1) }), "from 0x1000000 to 0x10000001 to start, and there is RAM up to 0x10000000: give the guest more than 257 MiB"},
		{"command line too long", LinuxConfig{Kernel: section(good), CPUs: 1, Cmdline: strings.Repeat("x", 2048)}, "2048 bytes long, and this kernel takes 2047"},
		{"command line of a boundless kernel", LinuxConfig{Kernel: section(bzImage(func(b []byte) { le.PutUint32(b[atCmdlineSize:], 1<<32-1) })), CPUs: 1, Cmdline: strings.Repeat("x", 1<<16)}, "takes 65535"},
		{"command line of a kernel that doesn't say", LinuxConfig{Kernel: section(bzImage(func(b []byte) { le.PutUint32(b[atCmdlineSize:], 0) })), CPUs: 1, Cmdline: strings.Repeat("x", 256)}, "takes 255"},
		{"NUL in the command line", LinuxConfig{Kernel: section(good), CPUs: 1, Cmdline: "a\x00b"}, "NUL"},
		{"empty initrd", LinuxConfig{Kernel: section(good), CPUs: 1, Initrd: section(nil)}, "initrd is empty"},
		{"large initrd", LinuxConfig{Kernel: section(good), CPUs: 1, Initrd: io.NewSectionReader(nil, 0, 1<<62)}, "doesn't fit"},

		{"ELF header cut off", LinuxConfig{Kernel: section(vmlinux(nil)[:40]), CPUs: 1}, "unexpected EOF"},
		{"ELF32", el(func(h *elf.Header64, p []elf.Prog64) { h.Ident[elf.EI_CLASS] = 1 }), "not for x86-64"},
		{"big-endian", el(func(h *elf.Header64, p []elf.Prog64) { h.Ident[elf.EI_DATA] = 2 }), "not for x86-64"},
		{"arm64", el(func(h *elf.Header64, p []elf.Prog64) { h.Machine = uint16(elf.EM_AARCH64) }), "not for x86-64"},
		{"shared object", el(func(h *elf.Header64, p []elf.Prog64) { h.Type = uint16(elf.ET_DYN) }), "ET_DYN"},
		{"no program headers", el(func(h *elf.Header64, p []elf.Prog64) { h.Phnum = 0 }), "0 program headers"},
		{"many program headers", el(func(h *elf.Header64, p []elf.Prog64) { h.Phnum = 65 }), "65 program headers"},
		{"program headers beyond the file", el(func(h *elf.Header64, p []elf.Prog64) { h.Phoff = 1<<64 - 1 }), "program header 0"},
		{"nothing to load", el(func(h *elf.Header64, p []elf.Prog64) { p[0].Type, p[2].Type = 0, 0 }), "entry point"},
		{"entry outside", el(func(h *elf.Header64, p []elf.Prog64) { h.Entry = 0xffffffff81000000 }), "entry point"},
		{"segment beyond the file", el(func(h *elf.Header64, p []elf.Prog64) { p[2].Filesz++ }), "truncated: segment 2"},
		{"segment offset wraps", el(func(h *elf.Header64, p []elf.Prog64) { p[0].Off = 1<<64 - 0x1000 }), "truncated: segment 0"},
		{"more in the file than in memory", el(func(h *elf.Header64, p []elf.Prog64) { p[0].Memsz-- }), "segment 0 has more bytes"},
		{"segment below 1 MiB", el(func(h *elf.Header64, p []elf.Prog64) { p[0].Paddr = 0x9000 }), "below 1 MiB"},
		{"segment beyond 4 GiB", el(func(h *elf.Header64, p []elf.Prog64) { p[2].Memsz = 1 << 40 }), "beyond 4 GiB"},
		{"segment wraps", el(func(h *elf.Header64, p []elf.Prog64) { p[2].Paddr = 1<<64 - 0x1000 }), "beyond 4 GiB"},
		{"segment beyond RAM", el(func(h *elf.Header64, p []elf.Prog64) { p[2].Memsz = 1 << 30 }), "give the guest more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := pc(t, 256<<20)
			_, err := Linux(g, tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			if len(g.pages) != 0 {
				t.Errorf("%d pages were written before the error", len(g.pages))
			}
		})
	}
}

// An image that fails or shrinks while it is read is an error, not half a
// kernel.
func TestImageReadErrors(t *testing.T) {
	image := bzImage(nil)
	for name, r := range map[string]io.ReaderAt{
		"fails":   failing{image, io.ErrNoProgress},
		"shrinks": failing{image, io.EOF},
	} {
		cfg := LinuxConfig{Kernel: io.NewSectionReader(r, 0, int64(len(image))), CPUs: 1}
		_, err := Linux(pc(t, 128<<20), cfg)
		if err == nil || !strings.Contains(err.Error(), "copying the kernel") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Linux(brokenRAM{pc(t, 128<<20)}, LinuxConfig{Kernel: section(image), CPUs: 1}); !errors.Is(err, errBroken) {
		t.Errorf("RAM that can't be written: %v", err)
	}
}

// failing reads its first 4 KiB well.
type failing struct {
	b   []byte
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 4096 {
		return 0, f.err
	}
	return copy(p, f.b[off:]), nil
}

var errBroken = errors.New("broken")

type brokenRAM struct{ *sparse }

func (brokenRAM) WriteAt([]byte, memory.GPA) (int, error) { return 0, errBroken }

func TestCmdline(t *testing.T) {
	tests := []struct {
		khz   int
		extra string
		want  string
	}{
		{0, "", "console=ttyS0 panic=-1 no_timer_check tsc=reliable"},
		{2445406, " quiet console=tty0\n", "console=ttyS0 panic=-1 no_timer_check tsc=reliable tsc_early_khz=2445406 quiet console=tty0"},
		{0, "console=hvc0 quiet", "earlyprintk=ttyS0 panic=-1 no_timer_check tsc=reliable console=hvc0 quiet"},
		{0, "console=hvc0 console=ttyS0", "console=ttyS0 panic=-1 no_timer_check tsc=reliable console=hvc0 console=ttyS0"},
	}
	for _, tt := range tests {
		if got := Cmdline(tt.khz, tt.extra); got != tt.want {
			t.Errorf("got  %q\nwant %q", got, tt.want)
		}
	}
}

// Whatever the image says, Linux fails or keeps to guest RAM, and leaves the
// firmware's tables alone.
func FuzzKernel(f *testing.F) {
	f.Add(bzImage(nil)[:4096], uint32(1000))
	f.Add(bzImage(func(b []byte) { le.PutUint32(b[atSysSize:], 0x100) }), uint32(70<<20))
	f.Add(vmlinux(nil), uint32(1))
	f.Fuzz(func(t *testing.T, image []byte, initrdSize uint32) {
		g := pc(t, 128<<20)
		cfg := LinuxConfig{Kernel: section(image), CPUs: 2, Cmdline: "x"}
		if initrdSize != 0 {
			cfg.Initrd = io.NewSectionReader(zeros{}, 0, int64(initrdSize))
		}
		cpu, err := Linux(g, cfg)
		if err != nil {
			return
		}
		if !g.layout.Contains(memory.GPA(cpu.RIP), 1) || cpu.RIP < uint64(highStart) {
			t.Errorf("entry point %#x", cpu.RIP)
		}
		findACPI(t, g)
		zp := g.bytes(t, zeroPageAddr, 4096)
		if n := zp[atE820Count]; n != 4 || zp[atLoader] != 0xff {
			t.Errorf("%d e820 entries, loader %#x", n, zp[atLoader])
		}
	})
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// The peer's struct is ours to use only as long as it lies where the kernel
// has it.
func TestGokvmLayout(t *testing.T) {
	p := &bootparam.BootParam{E820Entries: 0x11}
	p.Hdr = bootparam.SetupHeader{
		SetupSects: 0x21, BootFlag: 0x2221, Header: 0x26252423, CmdlinePtr: 0x2a292827, PrefAddress: 0x3231302f2e2d2c2b,
		InitSize: 0x36353433, KernelInfoOffset: 0x3a393837,
	}
	p.E820Map[1] = bootparam.E820Entry{Addr: 0x41, Size: 0x42, Type: 0x43}
	b, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int]string{
		atE820Count: "\x11", atSetupSects: "\x21", atBootFlag: "\x21\x22", atMagic: "\x23\x24\x25\x26",
		atCmdline: "\x27\x28\x29\x2a", atPrefAddress: "\x2b\x2c\x2d\x2e\x2f\x30\x31\x32",
		atInitSize: "\x33\x34\x35\x36", atKernelInfo: "\x37\x38\x39\x3a",
		atE820 + 20: "\x41\x00\x00\x00\x00\x00\x00\x00\x42\x00\x00\x00\x00\x00\x00\x00\x43\x00\x00\x00",
	} {
		if got := string(b[at : at+len(want)]); got != want {
			t.Errorf("at %#x: % x, want % x", at, got, want)
		}
	}
	if len(b) > pageSize {
		t.Errorf("%d bytes", len(b))
	}
}
