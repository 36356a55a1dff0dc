// Package rtc is the MC146818 real-time clock of a PC, as far as it tells the
// time: a guest without kvm-clock has no other wall clock, and Linux waits ten
// seconds at boot for one that never finishes its update (6.1's
// mach_get_cmos_time; every read of an absent one has all bits set).
package rtc

import (
	"sync"
	"time"
)

// The clock's I/O ports: an index and a data register.
const (
	Port = 0x70
	Size = 2
)

// Registers (MC146818 data sheet). The alarm's are plain RAM, like those from
// 14 on.
const (
	seconds = 0
	minutes = 2
	hours   = 4
	weekday = 6 // 1 is Sunday
	day     = 7
	month   = 8
	year    = 9
	regA    = 10
	regB    = 11
	regC    = 12
	regD    = 13

	divider  = 0x26 // A: 32,768 Hz, and no update is ever in progress
	mode24   = 1 << 1
	modeMask = 0x70 // B: the three interrupt enables can be set, and do nothing
	valid    = 1 << 7

	registers = 128
)

// Clock is the device. It implements bus.Device, Size ports wide. It has no
// interrupts, and setting the time is ignored.
type Clock struct {
	now func() time.Time

	mu    sync.Mutex
	index byte
	ram   [registers]byte
}

// New returns a clock that shows now, in UTC.
func New(now func() time.Time) *Clock {
	c := &Clock{now: now}
	c.ram[regA], c.ram[regB], c.ram[regD] = divider, mode24, valid
	c.latch()
	return c
}

// Read implements bus.Device.
func (c *Clock) Read(off uint64, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range p {
		p[i] = 0xff // the index can't be read
		if off+uint64(i) == 1 {
			// Whoever reads the time starts with the seconds: the rest
			// belongs to them.
			if c.index == seconds {
				c.latch()
			}
			p[i] = c.ram[c.index]
		}
	}
}

// Write implements bus.Device.
func (c *Clock) Write(off uint64, p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, v := range p {
		switch off + uint64(i) {
		case 0:
			c.index = v % registers // the top bit masks NMIs
		case 1:
			c.store(v)
		}
	}
}

func (c *Clock) store(v byte) {
	switch c.index {
	case seconds, minutes, hours, weekday, day, month, year, regA, regC, regD:
	case regB:
		c.ram[regB] = v&modeMask | mode24
	default:
		c.ram[c.index] = v
	}
}

// latch stores the time, in binary-coded decimal.
func (c *Clock) latch() {
	t := c.now().UTC()
	for _, f := range [...]struct{ reg, v int }{
		{seconds, t.Second()}, {minutes, t.Minute()}, {hours, t.Hour()}, {weekday, int(t.Weekday()) + 1},
		{day, t.Day()}, {month, int(t.Month())}, {year, t.Year() % 100},
	} {
		c.ram[f.reg] = byte(f.v/10<<4 | f.v%10)
	}
}
