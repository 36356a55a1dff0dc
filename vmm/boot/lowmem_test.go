package boot

import (
	"slices"
	"testing"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

// Nothing in low memory overlaps anything else, at its largest.
func TestLowMemory(t *testing.T) {
	type area struct {
		name       string
		start, end memory.GPA
	}
	sized := func(name string, start memory.GPA, size int) area {
		return area{name, start, start + memory.GPA(size)}
	}
	areas := []area{
		sized("TSS", tssAddr, tssSize),
		sized("EBDA segment", bdaEBDASegment, 2),
		sized("base memory size", bdaBaseMemory, 2),
		sized("GDT", gdtAddr, gdtSize),
		sized("boot parameters", zeroPageAddr, pageSize),
		sized("stack", stackTop-pageSize, pageSize),
		sized("page tables", tablesAddr, int(tablesSize(linuxMapped))),
		sized("command line", cmdlineAddr, maxCmdline),
		sized("MP pointer", ebdaAddr, 16),
		sized("RSDP", rsdpAddr, rsdpSize),
		sized("ACPI tables", acpiAddr, len(acpiTables(acpiAddr, MaxCPUs).tables)),
		sized("MP table", mpcAddr, len(mpTable(MaxCPUs))),
		sized("reset code", resetAddr, len(resetCode)),
		sized("kernel", highStart, 1),
	}
	for i, a := range areas {
		if a.end <= a.start {
			t.Errorf("%s is empty", a.name)
		}
		if i > 0 && a.start < areas[i-1].end {
			t.Errorf("%s at %s overlaps %s, which ends at %s", a.name, a.start, areas[i-1].name, areas[i-1].end)
		}
	}
	if tablesAddr%pageSize != 0 || ebdaAddr%16 != 0 || rsdpAddr%16 != 0 {
		t.Error("not aligned")
	}
}

func TestE820(t *testing.T) {
	const (
		ram      = bootparam.E820Ram
		reserved = bootparam.E820Reserved
	)
	low := []bootparam.E820Entry{
		{Addr: 0, Size: 0x9fc00, Type: ram},
		{Addr: 0x9fc00, Size: 0x400, Type: reserved},
		{Addr: 0xe0000, Size: 0x20000, Type: reserved},
	}
	tests := []struct {
		size uint64
		high []bootparam.E820Entry
	}{
		{32 << 20, []bootparam.E820Entry{{Addr: 1 << 20, Size: 31 << 20, Type: ram}}},
		{3 << 30, []bootparam.E820Entry{{Addr: 1 << 20, Size: 3<<30 - 1<<20, Type: ram}}},
		{3<<30 + 4096, []bootparam.E820Entry{{Addr: 1 << 20, Size: 3<<30 - 1<<20, Type: ram}, {Addr: 4 << 30, Size: 4096, Type: ram}}},
		{8 << 30, []bootparam.E820Entry{{Addr: 1 << 20, Size: 3<<30 - 1<<20, Type: ram}, {Addr: 4 << 30, Size: 5 << 30, Type: ram}}},
	}
	for _, tt := range tests {
		got, err := e820(pc(t, tt.size).Layout())
		if err != nil {
			t.Fatal(err)
		}
		if want := append(slices.Clone(low), tt.high...); !slices.Equal(got, want) {
			t.Errorf("%d bytes: got %+v, want %+v", tt.size, got, want)
		}
	}

	var many []memory.Region
	for i := range memory.GPA(200) {
		many = append(many, memory.Region{Start: i * 4 << 20, Size: 2 << 20})
	}
	for name, l := range map[string]memory.Layout{
		"no RAM":           nil,
		"too many regions": newSparse(t, many...).Layout(),
		"not from 0":       newSparse(t, memory.Region{Start: 1 << 20, Size: 64 << 20}).Layout(),
		"below 1 MiB":      newSparse(t, memory.Region{Start: 0, Size: 1 << 20}).Layout(),
	} {
		if m, err := e820(l); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
