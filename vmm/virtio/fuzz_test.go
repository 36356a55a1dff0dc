package virtio_test

import (
	"testing"

	"offmap/memory"

	"offmap/vmm/virtio"
	"offmap/vmm/virtio/virtiotest"
)

// FuzzQueue lets a hostile driver at a queue.
func FuzzQueue(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{4, 0, 5, 1, 2, 3, 4, 5, 0, 8, 0, 9, 4, 1, 1, 7, 2, 100, 0, 1}) // good requests
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 1, 0, 0, 3, 0, 1, 0})            // a loop
	f.Add([]byte{
		1, 0, 16, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 64, // an indirect table in the high region
		0, 0, 0, 0, 1, 0, 64, 0, 16, 0, 4, 0, 0, 3, 0, 1, 0, // its descriptor, and the avail index
		7, 0, 1, 3, 0, 255, 255,
	})
	f.Fuzz(func(t *testing.T, script []byte) {
		virtiotest.Hostile(t, &echo{sizes: []int{8, 4}}, script)
	})
}

// FuzzChains makes rings of the input's bytes, and checks what the queue makes of them:
// by itself, without a device.
func FuzzChains(f *testing.F) {
	one := virtiotest.Desc{GPA: 0x5000, Len: 1}.Bytes()
	f.Add(byte(3), uint16(1), one, []byte{}, []byte{0, 0})
	f.Add(byte(3), uint16(2), virtiotest.Desc{GPA: 0x8000, Len: 16, Flags: indirect}.Bytes(), one, []byte{0, 0, 0, 0})
	f.Add(byte(0), uint16(1), virtiotest.Desc{GPA: high, Len: 1 << 31, Flags: next | write}.Bytes(), one, []byte{0, 0})
	f.Fuzz(func(t *testing.T, features byte, index uint16, descs, table, heads []byte) {
		r := newRaw(t, uint64(features)<<28&(virtio.IndirectDesc|virtio.EventIdx))
		r.Put(r.Desc, descs[:min(len(descs), 16*rawSize)])
		r.Put(0x8000, table[:min(len(table), 16*32)])
		r.Put(r.Avail+4, heads[:min(len(heads), 2*rawSize)])
		r.SetAvailIndex(index)
		layout := r.ram.Layout()
		var chains []*virtio.Chain
		for {
			c, err := r.q.TryNext()
			if c == nil {
				if err == nil && len(chains) != int(index) {
					t.Errorf("%d requests of %d", len(chains), index)
				}
				break
			}
			if n := len(c.Readable) + len(c.Writable); n == 0 || n > 16 || c.Readable.Size()+c.Writable.Size() > 1<<32 {
				t.Errorf("a chain of %d pieces, %d and %d bytes", n, c.Readable.Size(), c.Writable.Size())
			}
			for _, ranges := range []memory.Ranges{c.Readable, c.Writable} {
				for _, p := range ranges {
					if p.Size == 0 || !layout.Contains(p.GPA, uint64(p.Size)) {
						t.Errorf("a piece of %d bytes at %s", p.Size, p.GPA)
					}
				}
			}
			chains = append(chains, c)
		}
		for i, c := range chains {
			if err := r.q.Done(c, uint32(min(c.Writable.Size(), 1<<32-1))); err != nil {
				t.Fatal(err)
			}
			if int(r.UsedIndex()) != i+1 {
				t.Errorf("used index %d after %d requests", r.UsedIndex(), i+1)
			}
		}
	})
}

// script is what a hostile driver does.
type script []byte

func (s *script) take(n int) []byte {
	b := make([]byte, n)
	*s = (*s)[copy(b, *s):]
	return b
}

func (s *script) byte() int { return int(s.take(1)[0]) }

// FuzzTransport lets a hostile driver at the registers, and at the queues that they
// set up. After a reset, the device must work for a good one.
func FuzzTransport(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{6, 7, 7, 0, 20, 0, 0, 6, 7})                   // good requests, and a reset between them
	f.Add([]byte{0, 20, 1, 1, 0, 20, 1, 3, 0, 12, 8, 0, 0, 20}) // negotiation by hand
	f.Add([]byte{6, 5, 2, 0, 2, 0xff, 0xff, 4, 0, 1, 0, 0, 60}) // a bad index, a kick
	f.Add([]byte{6, 3, 4, 2, 0, 0, 7, 2, 0, 16, 40, 8})         // no bus master, no memory; MSI-X table
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMachine(t, &echo{sizes: []int{8, 4}})
		m.hostile.Store(true)
		s := script(b[:min(len(b), 300)])
		for len(s) > 0 {
			m.attack(&s)
		}
		m.find() // so that its registers can be reached
		m.reset()
		m.hostile.Store(false)
		m.start(^uint64(0))
		m.roundTrip(0)
		m.roundTrip(1)
		if errs := m.logged(); len(errs) > 1 {
			t.Errorf("%d lines in the log: %v", len(errs), errs)
		}
	})
}

// attack is one step of a hostile driver.
func (m *machine) attack(s *script) {
	const barSize = 0x4000
	switch s.byte() % 8 {
	case 0: // a write to the common configuration
		off := uint64(s.byte() % 64)
		m.mem.Write(m.bar+off, s.take(s.byte()%65))
	case 1: // a read of any register
		off := uint64(le.Uint16(s.take(2))) % barSize
		m.mem.Read(m.bar+off, make([]byte, s.byte()))
	case 2: // a write to any register
		off := uint64(le.Uint16(s.take(2))) % barSize
		m.mem.Write(m.bar+off, s.take(s.byte()%65))
	case 3: // configuration space
		reg, size := s.byte(), 1<<(s.byte()%3)
		reg &^= size - 1
		m.config(reg, size)
		m.setConfig(reg, size, le.Uint32(s.take(4)))
	case 4:
		m.notify(s.byte() % 3)
	case 5: // a part of the rings, or what follows them
		gpa := memory.GPA(le.Uint16(s.take(2))) % 0x4000
		if _, err := m.ram.WriteAt(s.take(s.byte()%65), gpa); err != nil {
			m.t.Error(err)
		}
	case 6: // a good driver begins
		m.find()
		m.negotiate(m.features() & (virtio.Version1 | uint64(s.byte())<<28))
		for i := range m.rings {
			m.setUp(i)
		}
		m.set(status, 1, acknowledge|driver|featuresOK|driverOK)
	case 7: // a good request, as it would be the first one
		r := m.rings[s.byte()%len(m.rings)]
		r.SetDesc(0, virtiotest.Desc{GPA: 1 << 30, Len: 100, Flags: next, Next: 1})
		r.SetDesc(1, virtiotest.Desc{GPA: 1<<30 + 100, Len: 100, Flags: write})
		r.SetHead(0, 0)
		r.SetAvailIndex(1)
		r.Notify()
	}
}
