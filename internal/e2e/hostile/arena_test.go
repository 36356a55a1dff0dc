package main

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestHarmless mixes the bytes of descriptors of a class, as a device might read them,
// and holds that none of them has it write to RAM but to the arena's data.
func TestHarmless(t *testing.T) {
	const gpa, end = 0x1ca0_0000, 0x2000_0000
	a := &arena{mem: make([]byte, hugePage), gpa: gpa, beyond: end >> 24}
	r := rand.New(rand.NewPCG(1, 2))
	inRAM := func(addr, n uint64) bool { return addr < end && n <= end-addr }
	var write, over, table, hole int
	for i := range 1_000_000 {
		c := classOf(i)
		x, y := a.random(r, c).bytes(), a.random(r, c).bytes()
		if i%2 == 0 { // whole fields, else bytes
			copy(x[:8], y[:8])
		} else {
			for k := range x {
				if r.IntN(2) == 0 {
					x[k] = y[k]
				}
			}
		}
		addr, n, flags := binary.LittleEndian.Uint64(x[:]), uint64(binary.LittleEndian.Uint32(x[8:])), x[12]
		switch {
		case c == outside:
			if inRAM(addr, n) {
				t.Fatalf("%#x, %d bytes: RAM", addr, n)
			}
			hole++
		case flags&flagIndirect != 0:
			off := addr - gpa - descArea
			if c != tables || off%16 != 0 || off > 16*descSlots || n > 16*descSlots-off {
				t.Fatalf("class %d: a table of %d bytes at %#x", c, n, addr)
			}
			table++
		case c != buffers:
			t.Fatalf("class %d: a buffer", c)
		case !inRAM(addr, n):
			over++
		case addr < gpa || addr+n > gpa+descArea:
			t.Fatalf("%#x, %d bytes: not in the data area", addr, n)
		case flags&flagWrite != 0:
			write++
		}
	}
	if write == 0 || over == 0 || table == 0 || hole == 0 {
		t.Errorf("%d to write, %d over the end of RAM, %d tables, %d in holes", write, over, table, hole)
	}
}

// TestFill holds that filling and scrambling keep slots in their class.
func TestFill(t *testing.T) {
	a := &arena{mem: make([]byte, hugePage), gpa: 0x1000_0000, beyond: 0x20}
	r := rand.New(rand.NewPCG(3, 4))
	a.fill(r)
	for range 1_000_000 {
		a.scramble(r, r.IntN(descSlots))
	}
	for slot := range descSlots {
		b := a.mem[descArea+16*slot:][:16]
		if indirect := b[12]&flagIndirect != 0; classOf(slot) == buffers && indirect || classOf(slot) == tables && !indirect {
			t.Fatalf("slot %d: %x", slot, b)
		}
	}
}
