package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// attacker is a driver that breaks the rules of one device. Each device has one of its
// own, and one more thread that writes to what the device reads.
type attacker struct {
	d    *device
	r    *rand.Rand
	near atomic.Int64 // a slot in the descriptor table that is in use
	calm atomic.Bool  // the other thread waits

	// The device's state as far as it is known, since the last reset.
	rings []rings
	begun bool // FUSE
	known [16]uint64

	counts
}

// rings are where a queue is, as offsets in the arena. Those that are elsewhere are -1.
type rings struct {
	size              int
	desc, avail, used int
	next, seen        uint16
	placed            bool
	answer            int // where a request's answer will be, in the arena
}

// counts are what an attacker has done.
type counts struct {
	steps, resets, sent, used, broken int
}

func newAttacker(d *device, seed uint64) *attacker {
	a := &attacker{d: d, r: rand.New(rand.NewPCG(seed, 0))}
	for i := range a.known {
		a.known[i] = uint64(1 + i)
	}
	return a
}

// run attacks until the end, and until it has had an effect.
func (a *attacker) run(seed uint64, end time.Time) error {
	var scramblers sync.WaitGroup
	defer scramblers.Wait()
	var stop atomic.Bool
	defer stop.Store(true)
	a.d.mem.fill(a.r)
	a.messages()
	scramblers.Go(func() {
		r := rand.New(rand.NewPCG(seed, 1))
		for !stop.Load() {
			for near := int(a.near.Load()); !a.calm.Load() && r.IntN(30) > 0; {
				a.d.mem.scramble(r, near)
			}
			if r.IntN(4) == 0 {
				a.d.kick(r.IntN(len(a.d.queues)))
			}
			time.Sleep(rand.N(20 * time.Millisecond))
		}
	})
	for now := time.Now(); now.Before(end) || !a.effective() && now.Before(end.Add(patience)); now = time.Now() {
		if err := a.session(); err != nil {
			return err
		}
	}
	return a.d.reset()
}

// session is what there is between two resets.
func (a *attacker) session() error {
	d, r := a.d, a.r
	if err := d.reset(); err != nil {
		return err
	}
	a.resets++
	a.calm.Store(r.IntN(3) > 0)
	a.begun = r.IntN(10) == 0
	a.rings = make([]rings, len(d.queues))
	d.configWrite(d.msix, 4, uint64(2|r.IntN(4)/3)<<30) // MSI-X on, sometimes all masked
	d.set(deviceStatus, 1, acknowledge|driver)
	features := d.features()
	switch r.IntN(6) {
	case 0:
		features &= r.Uint64() | version1
	case 1:
		features ^= 1 << r.IntN(64)
	}
	d.accept(features)
	d.set(deviceStatus, 1, acknowledge|driver|featuresOK)
	for i := range a.rings {
		a.place(i, r.IntN(12) == 0)
		a.enable(i, 1)
	}
	d.set(configVector, 2, uint64(r.IntN(len(d.queues)+2)))
	if r.IntN(20) > 0 {
		d.set(deviceStatus, 1, acknowledge|driver|featuresOK|driverOK)
	}
	for range 1 << r.IntN(9) {
		a.step()
		a.steps++
		if a.steps%16 == 0 && a.isBroken() && r.IntN(4) > 0 {
			break
		}
	}
	if a.isBroken() {
		a.broken++
	}
	return nil
}

// isBroken reports whether the device says that it needs a reset. Without memory it says
// nothing.
func (a *attacker) isBroken() bool {
	st := a.d.get(deviceStatus, 1)
	return st != 0xff && st&needsReset != 0
}

// place says where a queue is: in the arena, or if it is a bad place maybe elsewhere.
// The device's memory of it is RAM of this program, or none: see arena.
func (a *attacker) place(i int, bad bool) {
	d, r := a.d, a.r
	q := rings{size: d.queues[i] >> r.IntN(4)}
	q.desc = descArea + 16*r.IntN(descSlots-d.queues[i])
	q.avail = availArea + 2*r.IntN((usedArea-availArea-ringRoom)/2)
	q.used = usedArea + 4*r.IntN((hugePage-usedArea-ringRoom)/4)
	q.placed = true
	gpa := d.mem.gpa
	desc, avail, used := gpa+uint64(q.desc), gpa+uint64(q.avail), gpa+uint64(q.used)
	size := q.size
	if bad {
		switch r.IntN(6) {
		case 0:
			desc = d.mem.hole(r)
		case 1:
			avail, q.avail = d.mem.hole(r), -1
		case 2:
			used, q.used = d.mem.hole(r), -1
		case 3: // RAM of the kernel's, which is only read
			avail, q.avail = uint64(r.IntN(int(d.mem.beyond)<<24)), -1
		case 4: // used elements and data overwrite each other
			q.used = dataArea + 4*r.IntN((descArea-dataArea-ringRoom)/4)
			used = gpa + uint64(q.used)
		case 5: // it stays what it was
			size = r.IntN(1 << 16)
		}
	}
	d.place(i, size, desc, avail, used)
	d.set(queueSelect, 2, uint64(i))
	q.size = min(int(d.get(queueSize, 2)), d.queues[i]) // with memory off, a read gives all ones
	d.set(queueVector, 2, uint64(r.IntN(len(d.queues)+2)))
	if q.avail >= 0 {
		clear(d.mem.mem[q.avail : q.avail+4])
	}
	if q.used >= 0 {
		clear(d.mem.mem[q.used : q.used+4])
	}
	a.rings[i] = q
}

// enable enables a queue that has a place. Another one's rings would be at 0, which is
// RAM of the kernel's.
func (a *attacker) enable(i int, v uint64) {
	if a.rings[i].placed {
		a.d.set(queueSelect, 2, uint64(i))
		a.d.set(queueEnable, 2, v)
	}
}

func (a *attacker) step() {
	d, r := a.d, a.r
	i := r.IntN(len(d.queues))
	kinds := 24
	if a.calm.Load() {
		kinds = 200
	}
	switch r.IntN(kinds) {
	default:
		a.request(i)
	case 10, 11: // anything at all as a request
		a.submit(i, uint16(r.IntN(2*a.rings[i].size+1)))
	case 12:
		a.submit(i, uint16(r.Uint32()))
	case 13: // the index jumps
		if q := &a.rings[i]; q.avail >= 0 {
			q.next += uint16(r.Uint32()) >> r.IntN(16)
			binary.LittleEndian.PutUint16(d.mem.mem[q.avail+2:], q.next)
		}
		d.kick(i)
	case 14:
		d.bar.write(d.notify+d.notifyStep*r.IntN(len(d.queues)+2), 1<<r.IntN(4), r.Uint64())
	case 15:
		a.poke(r.IntN(commonEnd), 1<<r.IntN(4), r.Uint64()>>r.IntN(64))
	case 16: // any register, and what is beside registers
		size := 1 << r.IntN(4)
		d.bar.read(r.IntN(len(d.bar)-size+1), size)
	case 17: // device configuration, and interrupt status
		d.bar.write([]int{d.regs, d.isr}[r.IntN(2)]+r.IntN(64), 1<<r.IntN(4), r.Uint64())
	case 18:
		a.message(r.IntN(d.vectors))
	case 19:
		a.configure()
	case 20:
		a.through()
	case 21: // again, after DRIVER_OK, or in a reset
		old := a.rings[i]
		a.place(i, r.IntN(2) == 0)
		a.enable(i, uint64(r.IntN(3)))
		if old.placed { // and so enabled
			a.rings[i] = old
		}
	case 22:
		d.set(deviceStatus, 1, uint64(1+r.IntN(255)))
	case 23:
		time.Sleep(time.Duration(r.IntN(1000)) * time.Microsecond)
	}
	a.collect(i)
}

// request makes a request that is as it should be, or nearly. The other thread may
// change it at any time.
func (a *attacker) request(i int) {
	d, r := a.d, a.r
	q := &a.rings[i]
	if q.avail < 0 || q.size < 8 {
		return
	}
	in, room := a.body(i)
	at := r.IntN(1 << 18)
	copy(d.mem.mem[dataArea+at:], in)
	q.answer = dataArea + 1<<18 + r.IntN(1<<17)
	var pieces []desc
	split := func(at, n int, flags uint16) {
		for n > 0 {
			m := n
			if r.IntN(4) == 0 {
				m = 1 + r.IntN(n)
			}
			m = min(m, dataMax)
			pieces = append(pieces, desc{addr: d.mem.gpa + uint64(at), len: uint32(m), flags: flags})
			at, n = at+m, n-m
		}
	}
	split(dataArea+at, len(in), 0)
	split(q.answer, room, flagWrite)
	if r.IntN(15) == 0 {
		r.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	}
	first := (q.desc - descArea) / 16
	slots := buffersFrom(first, q.size, r.IntN(q.size), len(pieces))
	if len(slots) == 0 || len(slots) < len(pieces) {
		return
	}
	for k, slot := range slots {
		p := pieces[k]
		if k < len(slots)-1 {
			p.flags, p.next = p.flags|flagNext, uint16(slots[k+1]-first)
		}
		d.mem.put(slot, p)
	}
	a.near.Store(int64(slots[0]))
	a.sent++
	a.submit(i, uint16(slots[0]-first))
}

// buffersFrom returns n slots for buffers of a descriptor table of size slots from first
// on: the next ones after the one with the number from.
func buffersFrom(first, size, from, n int) (slots []int) {
	for k := range size {
		if slot := first + (from+k)%size; len(slots) < n && classOf(slot) == buffers {
			slots = append(slots, slot)
		}
	}
	return slots
}

// submit makes a descriptor available.
func (a *attacker) submit(i int, head uint16) {
	q := &a.rings[i]
	if q.avail >= 0 {
		binary.LittleEndian.PutUint16(a.d.mem.mem[q.avail+4+2*(int(q.next)%max(1, q.size)):], head)
		q.next++
		binary.LittleEndian.PutUint16(a.d.mem.mem[q.avail+2:], q.next)
	}
	if a.r.IntN(8) > 0 {
		a.d.kick(i)
	}
}

// collect counts what the device has used.
func (a *attacker) collect(i int) {
	q := &a.rings[i]
	if q.used < usedArea {
		return
	}
	if now := binary.LittleEndian.Uint16(a.d.mem.mem[q.used+2:]); now != q.seen && now-q.seen < 1<<10 {
		a.used += int(now - q.seen)
		q.seen = now
		if a.d.kind == fs && q.answer != 0 && binary.LittleEndian.Uint32(a.d.mem.mem[q.answer+4:]) == 0 {
			a.learn(binary.LittleEndian.Uint64(a.d.mem.mem[q.answer+16:]))
		}
	}
}

// poke writes to registers of the common configuration, in any size. It writes none
// that says where the device may write, nor 0 to the status: that is for reset.
func (a *attacker) poke(reg, size int, v uint64) {
	if reg+size > commonEnd || !harmless(reg, size) {
		return
	}
	if off := deviceStatus - reg; off >= 0 && off < size && byte(v>>(8*off)) == 0 {
		v |= 1 << (8 * off)
	}
	a.d.set(reg, size, v)
}

// harmless reports whether an access leaves alone what enables a queue, and the
// addresses of descriptors and of the used ring.
func harmless(reg, size int) bool {
	over := func(first, end int) bool { return reg < end && reg+size > first }
	return !over(queueEnable, queueEnable+2) && !over(queueDesc, queueDesc+8) && !over(queueUsed, queueUsed+8)
}

// Messages of MSI-X: any address, but only vectors that Linux gives to nobody else, and
// no delivery mode that would reset a processor or take it from the kernel.
func (a *attacker) message(vector int) {
	d, r := a.d, a.r
	at := d.table + 16*vector
	data := uint64(r.Uint32())&0xffff0000 | uint64([]byte{0, 1, 3}[r.IntN(3)])<<8 | 0xd0 | uint64(r.IntN(16))
	d.bar.write(at+8, 4, data)
	address := r.Uint64() >> r.IntN(64)
	if r.IntN(2) == 0 {
		address = 0xfee00000 | uint64(r.IntN(256))<<12
	}
	size := 1 << r.IntN(4)
	d.bar.write(at+r.IntN(9-size), size, address)
	control := uint64(r.IntN(2))
	if r.IntN(4) == 0 {
		control |= uint64(r.Uint32())
	}
	d.bar.write(at+12, []int{1, 2, 4}[r.IntN(3)], control)
}

// messages gives each vector a message.
func (a *attacker) messages() {
	for v := range a.d.vectors {
		a.message(v)
	}
}

// configure reads and writes PCI configuration space, in any size, but for the data of
// the window to registers.
func (a *attacker) configure() {
	d, r := a.d, a.r
	size, reg := 1<<r.IntN(3), r.IntN(configSpace)
	switch r.IntN(4) {
	case 0:
		reg = regBAR
	case 1:
		reg = d.msix
	}
	if reg+size > configSpace {
		return
	}
	d.configRead(reg, size)
	if reg+size <= d.window+16 || reg >= d.window+20 {
		v := uint64(r.Uint32()) >> r.IntN(32)
		if r.IntN(3) == 0 {
			v = 1<<32 - 1
		}
		d.configWrite(reg, size, v)
	}
	if r.IntN(4) > 0 {
		d.configWrite(regCommand, 2, commandOn)
	}
}

// through accesses registers through configuration space (§4.1.4.9).
func (a *attacker) through() {
	d, r := a.d, a.r
	d.configWrite(d.window+4, 1, uint64(r.IntN(8)/6*r.IntN(256)))
	size := 1 << r.IntN(3)
	if r.IntN(4) == 0 {
		size = int(r.Uint32())
	}
	reg := r.IntN(commonEnd)
	at := d.common + reg
	if r.IntN(3) == 0 {
		reg, at = -1, int(r.Uint32()>>r.IntN(32))
	}
	d.configWrite(d.window+8, 4, uint64(at))
	d.configWrite(d.window+12, 4, uint64(size))
	d.configRead(d.window+16, 1<<r.IntN(3))
	if reg >= 0 && harmless(reg, 4) && (reg > deviceStatus || reg+4 <= deviceStatus) {
		d.configWrite(d.window+16, 1<<r.IntN(3), uint64(r.Uint32()))
	}
}

// effective reports whether the device has both answered and given up.
func (c counts) effective() bool { return c.used > 0 && c.broken > 0 }

func (c counts) String() string {
	return fmt.Sprintf("%d steps, %d resets, %d requests, %d used, broken %d times", c.steps, c.resets, c.sent, c.used, c.broken)
}
