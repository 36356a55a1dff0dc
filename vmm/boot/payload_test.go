package boot

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"offmap/memory"
)

func TestPayload(t *testing.T) {
	tests := []struct {
		ram  uint64
		cpus int
		ring uint8
	}{
		{32 << 20, 1, 3},
		{32 << 20, MaxCPUs, 3},
		{512 << 20, 2, 0},
		{6 << 30, 4, 3},
		{memory.MaxSize, 2, 3},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%dM-%dcpus-ring%d", tt.ram>>20, tt.cpus, tt.ring), func(t *testing.T) {
			g := pc(t, tt.ram)
			image := bytes.Repeat([]byte("payload"), 1000)
			cpus, err := Payload(g, image, PayloadConfig{CPUs: tt.cpus, Ring: tt.ring, Args: []uint64{0, 99}, TSCKHz: 2600000})
			if err != nil {
				t.Fatal(err)
			}
			if len(cpus) != tt.cpus {
				t.Fatalf("%d CPUs", len(cpus))
			}
			c := cpus[0]
			info := g.bytes(t, memory.GPA(c.RSI), 16+32+8+32)
			if le.Uint64(info) != tt.ram || le.Uint32(info[8:]) != uint32(tt.cpus) || int(le.Uint32(info[12:])) != len(g.layout) {
				t.Errorf("info % x", info)
			}
			if a := [...]uint64{le.Uint64(info[16:]), le.Uint64(info[24:]), le.Uint64(info[32:]), le.Uint64(info[40:])}; a != [...]uint64{0, 99, 0, 0} {
				t.Errorf("arguments %d", a)
			}
			if tsc := le.Uint64(info[48:]); tsc != 2600000 {
				t.Errorf("TSC %d kHz", tsc)
			}
			free, end := le.Uint64(info[56:]), le.Uint64(info[64:])
			if free%pageSize != 0 || end != uint64(g.layout[0].End()) {
				t.Errorf("free RAM from %#x to %#x", free, end)
			}
			for at := range g.pages {
				if uint64(at) >= free {
					t.Errorf("wrote at %s, which the payload takes for free", at)
				}
			}
			if !bytes.Equal(g.bytes(t, memory.GPA(c.RIP), len(image)), image) {
				t.Error("the payload isn't where it starts")
			}

			stacks := map[uint64]bool{}
			for i, c := range cpus {
				if c.RDI != uint64(i) || c.CS.DPL != tt.ring || c.Data.DPL != tt.ring {
					t.Errorf("CPU %d: RDI %d, ring %d", i, c.RDI, c.CS.DPL)
				}
				page := (c.RSP - 1) &^ (pageSize - 1)
				if stacks[page] || page < c.RIP+uint64(len(image)) || page >= c.CR3 || c.RSP > c.CR3 {
					t.Errorf("CPU %d: stack page %#x; image at %#x, page tables at %#x", i, page, c.RIP, c.CR3)
				}
				stacks[page] = true
			}
			for _, a := range []uint64{c.RIP, c.RSP - 1, free, uint64(g.layout.Top()) - 1, uint64(memory.HoleStart), 4<<30 - 1} {
				if phys, user, ok := g.translate(t, c, a); !ok || phys != a || user != (tt.ring == 3) {
					t.Errorf("%#x maps to %#x, user %v, %v", a, phys, user, ok)
				}
			}
		})
	}
}

func TestPayloadErrors(t *testing.T) {
	var many []memory.Region
	for i := range memory.GPA(300) {
		many = append(many, memory.Region{Start: i * 4 << 20, Size: 2 << 20})
	}
	ok := PayloadConfig{CPUs: 1, Ring: 3}
	tests := []struct {
		name  string
		g     *sparse
		image int
		cfg   PayloadConfig
		want  string
	}{
		{"no CPUs", pc(t, 32<<20), 1, PayloadConfig{Ring: 3}, "0 vCPUs"},
		{"too many CPUs", pc(t, 32<<20), 1, PayloadConfig{CPUs: 255, Ring: 3}, "1 to 254"},
		{"ring 1", pc(t, 32<<20), 1, PayloadConfig{CPUs: 1, Ring: 1}, "privilege level 1"},
		{"arguments", pc(t, 32<<20), 1, PayloadConfig{CPUs: 1, Ring: 3, Args: make([]uint64, 5)}, "5 arguments"},
		{"too big", pc(t, 32<<20), 32 << 20, ok, "must leave some"},
		{"nothing left", newSparse(t, memory.Region{Size: 8 * pageSize}), 1, ok, "must leave some"},
		{"not from 0", newSparse(t, memory.Region{Start: 1 << 20, Size: 1 << 20}), 1, ok, "start at 0"},
		{"many regions", newSparse(t, many...), 1, ok, "300 regions"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Payload(tt.g, make([]byte, tt.image), tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestMapUncached(t *testing.T) {
	g := pc(t, 6<<30)
	cpus, err := Payload(g, []byte("payload"), PayloadConfig{CPUs: 1, Ring: 3})
	if err != nil {
		t.Fatal(err)
	}
	at := memory.GPA(5<<30 + 6<<20)
	entry := func(at memory.GPA) uint64 { // of the page directory
		table := cpus[0].CR3
		for _, shift := range []uint{39, 30} {
			table = le.Uint64(g.bytes(t, memory.GPA(table&^0xfff+8*(uint64(at)>>shift&511)), 8))
		}
		return le.Uint64(g.bytes(t, memory.GPA(table&^0xfff+8*(uint64(at)>>21&511)), 8))
	}
	before := entry(at)
	if err := MapUncached(g, cpus[0], at); err != nil {
		t.Fatal(err)
	}
	if got := entry(at); got != before|0x18 || before&0x18 != 0 {
		t.Errorf("entry %#x before, %#x after", before, got)
	}
	for _, other := range []memory.GPA{at - 2<<20, at + 2<<20, 6 << 20} {
		if got := entry(other); got&0x18 != 0 {
			t.Errorf("the entry of %s is %#x", other, got)
		}
	}
}

// A payload may use vector registers: those of SSE2 always, those of AVX if it
// is asked for.
func TestPayloadVectors(t *testing.T) {
	for _, avx := range []bool{false, true} {
		cpus, err := Payload(pc(t, 32<<20), []byte("payload"), PayloadConfig{CPUs: 1, Ring: 3, AVX: avx})
		if err != nil {
			t.Fatal(err)
		}
		cr4, xcr0 := uint64(0x620), uint64(0)
		if avx {
			cr4, xcr0 = 0x40620, 7
		}
		if c := cpus[0]; c.CR4 != cr4 || c.XCR0 != xcr0 {
			t.Errorf("AVX %v: CR4 %#x, XCR0 %#x", avx, c.CR4, c.XCR0)
		}
	}
}
