package memory

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseMemmap(t *testing.T) {
	const k, m, g = 1 << 10, 1 << 20, 1 << 30
	for _, c := range []struct {
		cmdline string
		want    []PhysRange
	}{
		{"", nil},
		{"quiet memmap=64M$0x60000000 ro\n", []PhysRange{{0x60000000, 64 * m}}},
		{"memmap=64M$1536M", []PhysRange{{0x60000000, 64 * m}}},
		{"memmap=1g$4G,8K$0x100000 memmap=0x2000$64k", []PhysRange{{4 * g, g}, {m, 8 * k}, {64 * k, 8 * k}}},
		{`memmap="64M$0x60000000"`, []PhysRange{{0x60000000, 64 * m}}},
		{"memmap=0x1E000$0x1e00000", []PhysRange{{0x1e00000, 0x1e000}}}, // an E that is a digit
		{"memmap=010000$0x10000", []PhysRange{{0x10000, 4096}}},         // octal
		{"memmap=12K$0x10800", []PhysRange{{0x11000, 8 * k}}},           // whole pages only
		{"memmap=4K$0x10800", nil},
		// The other forms of memmap=.
		{"memmap=64M memmap=exactmap memmap=64M@0x60000000 memmap=64M#0x60000000 memmap=64M!0x60000000 memmap=64M%0x60000000-1+2", nil},
		// Nobody's, or init's.
		{"nomemmap=64M$0x60000000 memmap.x=64M$1 -- memmap=64M$0x60000000", nil},
		// Not numbers.
		{"memmap=$ memmap=64M$ memmap=$64M memmap=M$K memmap=-64M$0x60000000 memmap=64M$0x memmap=6_4M$1G memmap=0b1$0o7 memmap=64MM$1G", nil},
		{"memmap=64M$0x60000000x,,64M$0x60000000$1,64M$1G", []PhysRange{{g, 64 * m}}},
		// Around the end of the address space.
		{"memmap=4K$0xffffffffffffffff memmap=16E$4K memmap=8E$8E memmap=17179869184G$4K memmap=0$4K", nil},
	} {
		if diff := cmp.Diff(c.want, parseMemmap(c.cmdline)); diff != "" {
			t.Errorf("%q:\n%s", c.cmdline, diff)
		}
	}
}

// FuzzParseMemmap holds that what is found are whole pages that don't wrap
// around, and that a range written back is found again.
func FuzzParseMemmap(f *testing.F) {
	f.Add("memmap=64M$0x60000000,1G$4G quiet")
	f.Add("memmap=0x1E$0E memmap=07K$010")
	f.Fuzz(func(t *testing.T, cmdline string) {
		for _, r := range parseMemmap(cmdline) {
			if r.Size == 0 || r.Size%PageSize != 0 || r.Start%PageSize != 0 || r.End() <= r.Start {
				t.Fatalf("%q: %+v", cmdline, r)
			}
			if r.Start%(1<<20) == 0 && r.Size%(1<<20) == 0 {
				again := suggestMemmap(r.Size, []resource{{PhysRange{r.Start, r.Size + 4*hugePage}, systemRAM}})
				if got := parseMemmap(again); len(got) == 1 && got[0].Size != r.Size {
					t.Fatalf("%q: %v is suggested as %q, which is %v", cmdline, r, again, got)
				}
			}
		}
	})
}

// labIomem and labFirmware are of a machine with 2 GiB of RAM that was booted
// with memmap=64M$0x60000000.
const labIomem = `00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000f0000-000fffff : Reserved
  000f0000-000fffff : System ROM
00100000-5fffffff : System RAM
  2a600000-2b401ef1 : Kernel code
60000000-63ffffff : Reserved
64000000-7ffdffff : System RAM
7ffe0000-7fffffff : Reserved
80000000-afffffff : PCI Bus 0000:00
b0000000-bfffffff : PCI MMCONFIG 0000 [bus 00-ff]
  b0000000-bfffffff : Reserved
    b0000000-bfffffff : pnp 00:04
fd00000000-ffffffffff : Reserved
`

var labFirmware = []resource{
	{PhysRange{0, 0x9fc00}, systemRAM},
	{PhysRange{0x100000, 0x7fee0000}, systemRAM},
	{PhysRange{0x7ffe0000, 0x20000}, reservedRAM},
	{PhysRange{0xb0000000, 0x10000000}, reservedRAM},
}

func TestCheckReserved(t *testing.T) {
	iomem := parseIomem(labIomem)
	if len(iomem) != 14 {
		t.Fatalf("%d resources: %v", len(iomem), iomem)
	}
	for _, c := range []struct {
		name  string
		r     PhysRange
		iomem []resource
		want  string // "" is fine
	}{
		{"all of it", PhysRange{0x60000000, 64 << 20}, iomem, ""},
		{"a part", PhysRange{0x61000000, 4096}, iomem, ""},
		{"a page more", PhysRange{0x60000000, 64<<20 + 4096}, iomem, "doesn't show it as Reserved"},
		{"a page before", PhysRange{0x60000000 - 4096, 8192}, iomem, "doesn't show it as Reserved"},
		{"the kernel's RAM", PhysRange{0x1000000, 4096}, iomem, "doesn't show it as Reserved"},
		{"the firmware's", PhysRange{0x7ffe0000, 4096}, iomem, "isn't RAM"},
		{"a device", PhysRange{0xb0000000, 4096}, iomem, "isn't RAM"},
		{"above RAM", PhysRange{0xfd00000000, 4096}, iomem, "isn't RAM"},
		{"a driver's", PhysRange{0x60000000, 64 << 20}, append(slices.Clone(iomem), resource{PhysRange{0x63fff000, 4096}, "driver"}), `"driver" in it`},
		{"not root", PhysRange{0x60000000, 64 << 20}, parseIomem("00000000-00000000 : Reserved\n"), "run as root"},
	} {
		err := checkReserved(c.r, c.iomem, labFirmware)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// FuzzParseIomem holds that no text makes a range that wraps around.
func FuzzParseIomem(f *testing.F) {
	f.Add(labIomem)
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseIomem(text) {
			if r.End() <= r.Start {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func TestSuggestMemmap(t *testing.T) {
	iomem := parseIomem(labIomem)
	got := suggestMemmap(64<<20-4096, iomem)
	r := parseMemmap(got)
	if len(r) != 1 || r[0].Size != 64<<20 || !within(r[0], iomem, systemRAM) {
		t.Errorf("%s: not 64 MiB of RAM", got)
	}
	for _, c := range []struct {
		size uint64
		in   []resource
	}{{2 << 30, iomem}, {1 << 62, iomem}, {64 << 20, nil}} {
		if got := suggestMemmap(c.size, c.in); !strings.HasSuffix(got, "M$ADDRESS") {
			t.Errorf("%d bytes in %d resources: %s", c.size, len(c.in), got)
		}
	}
}

// locks are the ranges that others have, for claim.
type locks []PhysRange

func (l locks) lock(start, size uint64) (next uint64, err error) {
	for _, r := range l {
		if r.Start < start+size && start < r.End() {
			return r.End(), nil
		}
	}
	return 0, nil
}

func TestClaim(t *testing.T) {
	const p = PageSize
	ranges := []PhysRange{{0x10 * p, 4 * p}, {0x20 * p, 16 * p}}
	for _, c := range []struct {
		name  string
		size  uint64
		taken locks
		want  uint64
	}{
		{"the first", 4 * p, nil, 0x10 * p},
		{"the one that it fits in", 5 * p, nil, 0x20 * p},
		{"behind another", 4 * p, locks{{0x10 * p, p}, {0x20 * p, 2 * p}}, 0x22 * p},
		{"between others", 2 * p, locks{{0x10 * p, 4 * p}, {0x20 * p, p}, {0x23 * p, 13 * p}}, 0x21 * p},
		{"behind one of half a page", p, locks{{0x10 * p, p / 2}}, 0x11 * p},
		{"at the end", p, locks{{0x10 * p, 4 * p}, {0x20 * p, 15 * p}}, 0x2f * p},
		{"all taken", p, locks{{0, 1 << 40}}, 0},
		{"no piece is large enough", 9 * p, locks{{0x28 * p, p}}, 0},
		{"too large", 17 * p, nil, 0},
	} {
		if got, err := claim(ranges, c.size, c.taken.lock); got != c.want || err != nil {
			t.Errorf("%s: %#x, %v; want %#x", c.name, got, err, c.want)
		}
	}
	if got, err := claim([]PhysRange{{0, 4 * p}}, p, locks{}.lock); got != p || err != nil {
		t.Errorf("a range from address 0: %#x, %v; want its second page", got, err)
	}
	broken := errors.New("broken")
	if _, err := claim(ranges, p, func(uint64, uint64) (uint64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("a lock that fails: %v", err)
	}
}

// TestLockRange holds that two open files don't get the same range, that the
// one that came too late hears where it ends, and that a mapping keeps it.
func TestLockRange(t *testing.T) {
	name := t.TempDir() + "/mem"
	if err := os.WriteFile(name, make([]byte, 4*PageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() int {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	lock := func(fd int, page, want uint64) {
		t.Helper()
		next, err := lockRange(fd, page*PageSize, 2*PageSize)
		if err != nil || next != want*PageSize {
			t.Errorf("lock of pages %d and %d: next %#x, %v; want page %d", page, page+1, next, err, want)
		}
	}
	a, b := open(), open()
	defer unix.Close(b)
	lock(a, 1, 0)
	lock(b, 0, 3)
	lock(b, 2, 3)
	lock(b, 3, 0)
	mem, err := unix.Mmap(a, 0, PageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(a)
	lock(b, 0, 3)
	if err := unix.Munmap(mem); err != nil {
		t.Fatal(err)
	}
	lock(b, 0, 0)
}
