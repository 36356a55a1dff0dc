package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/bobuhiro11/gokvm/ebda"

	"offmap/memory"
	"offmap/vmm/power"
)

var le = binary.LittleEndian

func checkSum(t *testing.T, what string, b []byte) {
	t.Helper()
	if s := sum(b); s != 0 {
		t.Errorf("%s sums to %#x", what, s)
	}
}

// findACPI follows the pointers as a kernel does: from the BIOS area's RSDP
// to the XSDT and what it lists.
func findACPI(t *testing.T, g *sparse) map[string][]byte {
	t.Helper()
	tables := map[string][]byte{}
	read := func(at uint64) string {
		n := int(le.Uint32(g.bytes(t, memory.GPA(at)+sdtLength, 4)))
		if n > 1<<16 {
			t.Fatalf("table of %d bytes at %#x", n, at)
		}
		b := g.bytes(t, memory.GPA(at), n)
		sig := string(b[:4])
		if sig != "FACS" {
			checkSum(t, sig, b)
		}
		tables[sig] = b
		return sig
	}
	var rsdp []byte
	for at := memory.GPA(0xe0000); at < 0x100000; at += 16 {
		if b := g.bytes(t, at, rsdpSize); string(b[:8]) == "RSD PTR " {
			rsdp = b
			break
		}
	}
	if rsdp == nil {
		t.Fatal("no RSDP in the BIOS area")
	}
	checkSum(t, "RSDP 1.0", rsdp[:20])
	checkSum(t, "RSDP", rsdp)
	if rsdp[15] < 2 {
		t.Errorf("RSDP revision %d has no XSDT", rsdp[15])
	}
	if sig := read(le.Uint64(rsdp[24:])); sig != "XSDT" {
		t.Fatalf("RSDP points to %q", sig)
	}
	for x := tables["XSDT"][36:]; len(x) >= 8; x = x[8:] {
		read(le.Uint64(x))
	}
	fadt := tables["FACP"]
	if fadt == nil {
		t.Fatal("no FADT")
	}
	for _, at := range []uint64{uint64(le.Uint32(fadt[36:])), uint64(le.Uint32(fadt[40:])), le.Uint64(fadt[140:])} {
		read(at)
	}
	return tables
}

func TestACPI(t *testing.T) {
	for _, cpus := range []int{1, 2, MaxCPUs} {
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			g := pc(t, 32<<20)
			if err := writeFirmware(g, cpus); err != nil {
				t.Fatal(err)
			}
			tables := findACPI(t, g)

			f := tables["FACP"]
			if len(f) != 276 || f[8] != 6 {
				t.Errorf("FADT of %d bytes, revision %d", len(f), f[8])
			}
			for _, v := range []struct {
				what      string
				got, want uint64
			}{
				{"SCI", uint64(le.Uint16(f[46:])), 9},
				{"SMI command", uint64(le.Uint32(f[48:])), 0},
				{"PM1a event block", uint64(le.Uint32(f[56:])), power.PMBase},
				{"PM1a control block", uint64(le.Uint32(f[64:])), power.PMBase + power.PM1Control},
				{"event length", uint64(f[88]), 4},
				{"control length", uint64(f[89]), 2},
				{"reset register space", uint64(f[116]), 1},
				{"reset register width", uint64(f[117]), 8},
				{"reset register", le.Uint64(f[120:]), 0xcf9},
				{"reset value", uint64(f[128]), 6},
				{"hardware-reduced flag", uint64(le.Uint32(f[112:]) >> 20 & 1), 0},
				{"reset supported", uint64(le.Uint32(f[112:]) >> 10 & 1), 1},
				{"boot flags: legacy devices, no 8042, no VGA, an RTC", uint64(le.Uint16(f[109:])), 1 | 1<<2},
				{"FACS alignment", uint64(le.Uint32(f[36:]) % 64), 0},
			} {
				if v.got != v.want {
					t.Errorf("%s is %#x, want %#x", v.what, v.got, v.want)
				}
			}

			m := tables["APIC"]
			if got := le.Uint32(m[36:]); got != 0xfee00000 {
				t.Errorf("local APIC at %#x", got)
			}
			var ids []byte
			kinds := map[byte]int{}
			for e := m[44:]; len(e) > 0; e = e[e[1]:] {
				kinds[e[0]]++
				switch e[0] {
				case madtLocalAPIC:
					ids = append(ids, e[3])
					if le.Uint32(e[4:]) != 1 {
						t.Errorf("CPU %d is not enabled", e[3])
					}
				case madtIOAPIC:
					if le.Uint32(e[4:]) != 0xfec00000 || le.Uint32(e[8:]) != 0 || slices.Contains(ids, e[2]) {
						t.Errorf("I/O APIC % x", e)
					}
				case madtOverride:
					if want := []byte{2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0}; !bytes.Equal(e[:10], want) {
						t.Errorf("override % x, want % x", e[:10], want)
					}
				}
			}
			if len(ids) != cpus || ids[0] != 0 || kinds[madtIOAPIC] != 1 || kinds[madtOverride] != 1 {
				t.Errorf("CPUs %v, entries %v", ids, kinds)
			}
			if !bytes.Contains(tables["DSDT"], []byte("_S5_\x12\x08\x04\x0a\x05\x0a\x05\x00\x00")) {
				t.Errorf("no _S5 in DSDT % x", tables["DSDT"])
			}
		})
	}
}

// mpEntries finds the MP table as a kernel does and returns it by entry type.
func mpEntries(t *testing.T, pointer []byte, table func(at uint32) []byte) map[byte][][]byte {
	t.Helper()
	if string(pointer[:4]) != "_MP_" || pointer[8] != 1 || pointer[9] != 4 || pointer[11] != 0 {
		t.Fatalf("floating pointer % x", pointer)
	}
	checkSum(t, "MP floating pointer", pointer[:16])
	b := table(le.Uint32(pointer[4:]))
	b = b[:le.Uint16(b[4:])]
	if string(b[:4]) != "PCMP" || b[6] != 4 || le.Uint32(b[36:]) != 0xfee00000 {
		t.Fatalf("MP table header % x", b[:44])
	}
	checkSum(t, "MP table", b)
	byType := map[byte][][]byte{}
	n, count := 0, int(le.Uint16(b[34:]))
	for e := b[44:]; len(e) > 0; n++ {
		size := 8
		if e[0] == 0 {
			size = 20
		}
		byType[e[0]] = append(byType[e[0]], e[:size])
		e = e[size:]
	}
	if n != count {
		t.Errorf("%d entries, header says %d", n, count)
	}
	return byType
}

func TestMPTable(t *testing.T) {
	for _, cpus := range []int{1, 4, MaxCPUs} {
		t.Run(fmt.Sprint(cpus), func(t *testing.T) {
			g := pc(t, 32<<20)
			if err := writeFirmware(g, cpus); err != nil {
				t.Fatal(err)
			}
			e := mpEntries(t, g.bytes(t, ebdaAddr, 16), func(at uint32) []byte {
				return g.bytes(t, memory.GPA(at), int(biosEnd-mpcAddr))
			})
			if len(e[0]) != cpus || len(e[1]) != 1 || len(e[2]) != 1 || len(e[3]) != 15 || len(e[4]) != 2 {
				t.Fatalf("entries by type: %d %d %d %d %d", len(e[0]), len(e[1]), len(e[2]), len(e[3]), len(e[4]))
			}
			if want := append([]byte{1, 0}, "ISA   "...); !bytes.Equal(e[1][0], want) {
				t.Errorf("bus % x", e[1][0])
			}
			io := byte(cpus)
			if want := []byte{2, io, 0x14, 1, 0, 0, 0xc0, 0xfe}; !bytes.Equal(e[2][0], want) {
				t.Errorf("I/O APIC % x, want % x", e[2][0], want)
			}
			for _, in := range e[3] {
				irq := in[5]
				if want := []byte{3, 0, 0, 0, 0, irq, io, irq}; !bytes.Equal(in, want) {
					t.Errorf("interrupt % x, want % x", in, want)
				}
			}
		})
	}
}

// gokvm's table has processors and nothing else: those agree with ours, but
// for the CPU signature, which the specification's figure 4-4 has in the low
// 12 bits and gokvm in the upper half.
func TestMPTableAgainstGokvm(t *testing.T) {
	const cpus = 4
	peer, err := ebda.New(cpus)
	if err != nil {
		t.Fatal(err)
	}
	b, err := peer.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	theirs := mpEntries(t, b[0x30:], func(at uint32) []byte { return b[at-0x9fc00:] })
	ours := mpEntries(t, mpPointer(0), func(uint32) []byte { return mpTable(cpus) })
	for i := range cpus {
		clear(ours[0][i][4:8])
		clear(theirs[0][i][4:8])
		if !bytes.Equal(ours[0][i], theirs[0][i]) {
			t.Errorf("processor %d: % x, gokvm has % x", i, ours[0][i], theirs[0][i])
		}
	}
}
