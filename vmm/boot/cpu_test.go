package boot

import (
	"fmt"
	"testing"

	"offmap/guest/protocol"
	"offmap/memory"
)

// Descriptors as Linux and other kernels spell them.
func TestDescriptors(t *testing.T) {
	tests := []struct {
		ring             uint8
		code, data       uint64
		codeSel, dataSel uint16
		rflags           uint64
	}{
		{0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x10, 0x18, 0x2},
		{3, 0x00affb000000ffff, 0x00cff3000000ffff, 0x13, 0x1b, 0x3002},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("ring%d", tt.ring), func(t *testing.T) {
			g := pc(t, 32<<20)
			c, err := longMode(g, tables{gdt: 0x1000, cr3: 0x9000, ring: tt.ring})
			if err != nil {
				t.Fatal(err)
			}
			if c.CS.Selector != tt.codeSel || c.Data.Selector != tt.dataSel || c.RFLAGS != tt.rflags {
				t.Errorf("CS %#x, data %#x, RFLAGS %#x", c.CS.Selector, c.Data.Selector, c.RFLAGS)
			}
			for _, e := range []struct {
				at   memory.GPA
				want uint64
			}{{0x1000, 0}, {0x1008, 0}, {0x1010, tt.code}, {0x1018, tt.data}, {0x1020, 0x00008b0000000000 | (tssSize - 1)}, {0x1028, 0}} {
				if got := g.u64(t, e.at); got != e.want {
					t.Errorf("GDT at %s: %#016x, want %#016x", e.at, got, e.want)
				}
			}
			if c.GDT != (Table{0x1000, 0x2f}) {
				t.Errorf("GDT register %+v", c.GDT)
			}
			// PE, MP, ET, NE, WP, PG; PAE; LME, LMA.
			if c.CR0 != 0x80010033 || c.CR4 != 0x20 || c.EFER != 0x500 || c.CR3 != 0x9000 {
				t.Errorf("CR0 %#x CR4 %#x EFER %#x CR3 %#x", c.CR0, c.CR4, c.EFER, c.CR3)
			}
		})
	}
}

// The I/O permission bitmap lets a payload at its ports.
func TestIOPermission(t *testing.T) {
	b := tss()
	if len(b) != tssSize || len(b) > 0x400 {
		t.Fatalf("TSS of %d bytes: it shares a page with the BIOS data area at 0x400", len(b))
	}
	base := int(b[102]) | int(b[103])<<8
	for _, port := range []int{0x3f8, 0x3fd, protocol.EventPort, protocol.ExitPort, protocol.HaltPort, 0xcf8, 0xcff} {
		// The CPU reads two bytes, and both must be within the limit.
		if i := base + port/8; i+1 >= len(b) || b[i]>>(port%8)&1 != 0 {
			t.Errorf("port %#x is closed", port)
		}
	}
	if b[len(b)-1] != 0xff {
		t.Error("no byte of ones after the bitmap (Intel SDM vol. 1 §19.5.2)")
	}
}

func TestIdentity(t *testing.T) {
	const gib = 1 << 30
	tests := []struct {
		top  memory.GPA
		user bool
		size uint64 // pages
	}{
		{5 * pageSize, true, 3},
		{gib, false, 3},
		{gib + pageSize, false, 4},
		{4 * gib, false, 6},
		{513 * gib, true, 516},
		{1025 * gib, true, 1029}, // the most that a layout has
	}
	for _, tt := range tests {
		t.Run(tt.top.String(), func(t *testing.T) {
			const base = 0x9000
			g := newSparse(t, memory.Region{Start: 0, Size: 16 << 20})
			cr3, err := identity(g, base, tt.top, tt.user)
			if err != nil {
				t.Fatal(err)
			}
			if n := tablesSize(tt.top) / pageSize; n != tt.size || uint64(len(g.pages)) != tt.size {
				t.Errorf("%d pages, %d written, want %d", n, len(g.pages), tt.size)
			}
			for at := range g.pages {
				if at < base || uint64(at) >= base+tablesSize(tt.top) {
					t.Errorf("wrote at %s", at)
				}
			}
			c := CPU{CR3: cr3}
			end := alignUp(uint64(tt.top), largePage)
			for _, a := range []uint64{0, pageSize, largePage - 1, uint64(tt.top) / 2, uint64(tt.top) - 1, end - 1} {
				phys, user, ok := g.translate(t, c, a)
				if !ok || phys != a || user != tt.user {
					t.Errorf("%#x maps to %#x, user %v, %v", a, phys, user, ok)
				}
			}
			if phys, _, ok := g.translate(t, c, end); ok {
				t.Errorf("%#x maps to %#x", end, phys)
			}
		})
	}
	if _, err := identity(pc(t, 32<<20), 0, 1<<48, false); err == nil {
		t.Error("mapped a range that isn't canonical")
	}
}
