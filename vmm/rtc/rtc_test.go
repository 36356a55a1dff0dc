package rtc

import (
	"testing"
	"time"
)

func read(c *Clock, reg byte) byte {
	c.Write(0, []byte{reg})
	var p [1]byte
	c.Read(1, p[:])
	return p[0]
}

func write(c *Clock, reg, v byte) {
	c.Write(0, []byte{reg})
	c.Write(1, []byte{v})
}

func TestTime(t *testing.T) {
	now := time.Date(2026, time.November, 22, 23, 59, 58, 0, time.FixedZone("", -3600))
	c := New(func() time.Time { return now })
	for reg, want := range map[byte]byte{
		seconds: 0x58, minutes: 0x59, hours: 0x00, weekday: 0x02, day: 0x23, month: 0x11, year: 0x26,
		regA: 0x26, regB: 0x02, regC: 0x00, regD: 0x80, 0x80 | seconds: 0x58,
	} {
		if got := read(c, reg); got != want {
			t.Errorf("register %d: %#02x, want %#02x", reg, got, want)
		}
	}

	// Minutes that follow seconds belong to them, however late they are read.
	s := read(c, seconds)
	now = now.Add(2 * time.Second)
	if m := read(c, minutes); s != 0x58 || m != 0x59 {
		t.Errorf("%x:%x is no time that there was", m, s)
	}
	if s, m, h := read(c, seconds), read(c, minutes), read(c, hours); s != 0 || m != 0 || h != 1 {
		t.Errorf("%x:%x:%x two seconds later", h, m, s)
	}
}

func TestWrites(t *testing.T) {
	c := New(func() time.Time { return time.Unix(0, 0) })
	for reg := range byte(registers) {
		write(c, reg, 0xff)
	}
	for reg, want := range map[byte]byte{
		seconds: 0, day: 1, year: 0x70, regA: divider, regB: modeMask | mode24, regC: 0, regD: valid, 1: 0xff, 127: 0xff,
	} {
		if got := read(c, reg); got != want {
			t.Errorf("register %d: %#02x, want %#02x", reg, got, want)
		}
	}
}

func FuzzAccess(f *testing.F) {
	f.Add(uint64(0), []byte{0x0b, 0xff})
	f.Fuzz(func(t *testing.T, off uint64, p []byte) {
		c := New(time.Now)
		c.Write(off, p)
		c.Read(off, p)
		if a := read(c, regA); a != divider {
			t.Errorf("register A is %#x: the update never ends", a)
		}
	})
}
