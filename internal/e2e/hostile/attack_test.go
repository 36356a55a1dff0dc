package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestAttack attacks memory in place of a device. It holds that the registers which say
// where a device may write only ever have what does no harm, and that the vectors of
// messages are nobody else's.
func TestAttack(t *testing.T) {
	for kind, name := range kindNames {
		t.Run(name, func(t *testing.T) {
			config, err := os.Create(filepath.Join(t.TempDir(), "config"))
			if err != nil {
				t.Fatal(err)
			}
			defer config.Close()
			const gpa, end = 0x1ca0_0000, 0x2000_0000
			d := &device{
				name: "memory", kind: kind, config: config, bar: make(bar, 0x4000),
				isr: 0x80, regs: 0x100, notify: 0x1000, notifyStep: 4, table: 0x2000, vectors: 5, msix: 0xa0, window: 0x80,
				queues: []int{256, 256, 256, 256}, mem: &arena{mem: make([]byte, hugePage), gpa: gpa, beyond: end >> 24},
			}
			a := newAttacker(d, rand.Uint64())
			d.mem.fill(a.r)
			a.messages()
			check := func() {
				desc, used := d.get(queueDesc, 8), d.get(queueUsed, 8)
				if d.get(queueEnable, 2) != 0 && (desc < gpa+descArea || desc+16*256 > gpa+availArea) && desc < end {
					t.Fatalf("a descriptor table at %#x", desc)
				}
				if d.get(queueEnable, 2) != 0 && (used < gpa || used+8*256+6 > gpa+hugePage || used > gpa+descArea && used < gpa+availArea) && used < end {
					t.Fatalf("a used ring at %#x", used)
				}
				for v := range d.vectors {
					if data := d.bar.read(d.table+16*v+8, 4); data&0xf0 != 0xd0 || data>>8&7 == 2 || data>>8&7 > 3 {
						t.Fatalf("vector %d sends %#x", v, data)
					}
				}
			}
			for range 200 {
				d.set(queueEnable, 2, 0)
				if err := a.session(); err != nil {
					t.Fatal(err)
				}
				for range 200 {
					a.step()
					check()
				}
			}
			if a.sent == 0 || a.steps == 0 {
				t.Errorf("%v", a.counts)
			}
		})
	}
}

func TestHarmlessRegisters(t *testing.T) {
	for _, c := range []struct {
		reg, size int
		want      bool
	}{
		{deviceStatus, 8, true}, {deviceStatus, 4, true}, {queueVector, 2, true}, {queueVector, 4, false}, {queueEnable, 1, false},
		{queueEnable + 1, 1, false}, {queueEnable + 2, 2, true}, {queueEnable + 2, 4, false}, {queueDesc, 8, false}, {queueAvail, 8, true},
		{queueAvail - 1, 1, false}, {queueAvail + 1, 8, false}, {queueUsed + 7, 1, false}, {0, 8, true},
	} {
		if got := harmless(c.reg, c.size); got != c.want {
			t.Errorf("%d bytes at %#x: %t", c.size, c.reg, got)
		}
	}
}
