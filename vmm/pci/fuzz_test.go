package pci

import (
	"bytes"
	"slices"
	"testing"
)

// script is what a fuzzer has the guest do: a stream of small numbers.
type script struct{ b []byte }

func (s *script) more() bool { return len(s.b) > 0 }

// next returns the next n bytes as a number, with zeros behind the end.
func (s *script) next(n int) uint64 {
	var p [8]byte
	s.b = s.b[copy(p[:n], s.b):]
	return le.Uint64(p[:])
}

// data returns up to 8 bytes to write.
func (s *script) data() []byte {
	n := int(s.next(1))%8 + 1
	return le.AppendUint64(nil, s.next(n))[:n]
}

// FuzzConfig makes accesses of any size and alignment to the ports and to the window
// of BARs, and holds what a guest can't change.
func FuzzConfig(f *testing.F) {
	f.Add([]byte{0, 0x10, 8, 0, 0x80, 1, 4, 3, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 4, 8, 0, 0x80, 1, 4, 1, 6, 0, 2, 0, 0, 3, 1, 2, 3, 4, 0, 0x4a, 8, 0, 0x80, 1, 6, 1, 9, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMachine(t)
		var fns []*Function
		for range 2 {
			fn, err := m.bus.Add(testConfig(t))
			if err != nil {
				t.Fatal(err)
			}
			fns = append(fns, fn)
		}
		var fixed [3]map[int]uint32
		for dev := range fixed {
			fixed[dev] = readFixed(m, dev)
		}
		for s := (&script{b}); s.more(); {
			switch s.next(1) % 4 {
			case 0: // the address, mostly a good one
				m.out(ConfigPort, 4, uint32(s.next(4)))
			case 1: // any access to the ports
				off := s.next(1) % ConfigSize
				p := s.data()
				m.io.Write(ConfigPort+off, p)
				m.io.Read(ConfigPort+off, p)
			case 2: // any access to a BAR
				off := s.next(2) % 0x8000
				p := s.data()
				m.mem.Write(uint64(WindowStart)+off, p)
				m.mem.Read(uint64(WindowStart)+off, p)
			case 3:
				fns[s.next(1)%2].Signal(int(s.next(1)) - 1)
			}
		}
		for dev := range fixed {
			m.setConfig(dev, regBAR, 4, 0) // the end of sizing
			m.setConfig(dev, regCommand, 2, 0)
			for reg, want := range readFixed(m, dev) {
				if got := fixed[dev][reg]; got != want {
					t.Errorf("device %d: register 0x%x was 0x%x, and is 0x%x", dev, reg, got, want)
				}
			}
			m.capabilities(t, dev)
		}
		for i, fn := range fns {
			// The BAR is where it was, and answers once it is enabled.
			p := []byte{0, 0, 0, 0}
			m.mem.Read(uint64(fn.BAR())+0x2000+entryControl, p)
			if !bytes.Equal(p, []byte{0xff, 0xff, 0xff, 0xff}) {
				t.Errorf("BAR %d answers while it is off: % x", i, p)
			}
			m.setConfig(i+1, regCommand, 2, commandMemory)
			m.mem.Read(uint64(fn.BAR())+0x2000+entryControl, p)
			if le.Uint32(p)&^entryMasked != 0 {
				t.Errorf("BAR %d: vector control reads % x", i, p)
			}
		}
	})
}

// readFixed reads what never changes of a device's configuration space: all but what
// is writable, and the body of the capability that has registers.
func readFixed(m *machine, dev int) map[int]uint32 {
	fixed := map[int]uint32{}
	for reg := 0; reg < configSpace; reg += 4 {
		v := m.config(dev, reg, 4)
		switch reg {
		case regCommand:
			v &^= 0xffff
		case regLine:
			v &^= 0xff
		case 0x48: // its head: ID and pointer
			v &= 0xffff
		case 0x4c:
			continue
		case 0x50:
			v &^= (msixEnable | msixMask) << 16
		}
		fixed[reg] = v
	}
	return fixed
}

// model is MSI-X as the specification has it: what must be sent, and when.
type model struct {
	enabled, masked, master bool
	vectors                 [3]vector
	sent                    []message
}

type vector struct {
	message
	masked, pending bool
}

func (m *model) signal(v int) {
	if m.enabled && v >= 0 && v < len(m.vectors) {
		m.vectors[v].pending = true
	}
	m.send()
}

func (m *model) send() {
	for i := range m.vectors {
		v := &m.vectors[i]
		v.pending = v.pending && m.enabled
		if v.pending && m.master && !m.masked && !v.masked {
			v.pending = false
			m.sent = append(m.sent, v.message)
		}
	}
}

// FuzzMSIX compares the function with the model.
func FuzzMSIX(f *testing.F) {
	f.Add([]byte{0, 4, 1, 0xc0, 2, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0x80, 4, 0})
	f.Add([]byte{0, 4, 1, 0x80, 4, 0, 4, 1, 4, 2, 2, 12, 0, 0, 4, 0, 3, 0, 1, 0xc0, 4, 0, 1, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		const table, vectors = 0x2000, 3
		m := newMachine(t)
		fn, err := m.bus.Add(testConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		var want model
		for i := range want.vectors {
			want.vectors[i].masked = true
		}
		at := uint64(fn.BAR())
		for s := (&script{b}); s.more(); {
			switch s.next(1) % 5 {
			case 0:
				// The table needs the memory bit.
				v := uint16(s.next(1)) | commandMemory
				want.master = v&commandMaster != 0
				m.setConfig(1, regCommand, 2, uint32(v))
				want.send()
			case 1: // the high byte of message control
				v := uint16(s.next(1)) << 8
				want.enabled, want.masked = v&msixEnable != 0, v&msixMask != 0
				m.setConfig(1, 0x53, 1, uint32(v>>8))
				want.send()
			case 2: // a dword of the table
				off := int(s.next(1)) % (vectors * entrySize) &^ 3
				v := uint32(s.next(4))
				if fn.memory.Load() {
					e := &want.vectors[off/entrySize]
					switch off % entrySize {
					case 0:
						e.addr = e.addr&^0xffffffff | uint64(v)
					case 4:
						e.addr = e.addr&0xffffffff | uint64(v)<<32
					case entryData:
						e.data = v
					case entryControl:
						e.masked = v&entryMasked != 0
					}
				}
				m.mem.Write(at+table+uint64(off), le.AppendUint32(nil, v))
				want.send()
			case 3: // a write to the pending bits
				m.mem.Write(at+table+vectors*entrySize, le.AppendUint64(nil, s.next(1)))
			case 4:
				v := int(s.next(1)) % (vectors + 2)
				fn.Signal(v - 1)
				want.signal(v - 1)
			}
			if !slices.Equal(m.sent, want.sent) {
				t.Fatalf("sent %v, want %v", m.sent, want.sent)
			}
			p := make([]byte, 8)
			if m.mem.Read(at+table+vectors*entrySize, p); fn.memory.Load() {
				for i, v := range want.vectors {
					if got := p[0]>>i&1 != 0; got != v.pending {
						t.Fatalf("vector %d is pending: %t, want %t", i, got, v.pending)
					}
				}
			}
			ready := want.enabled && want.master && !want.masked &&
				slices.ContainsFunc(want.vectors[:], func(v vector) bool { return !v.masked })
			if maskable, other := m.bus.Interrupts(); (maskable || other) != ready {
				t.Fatalf("can send %t or %t, want %t", maskable, other, ready)
			}
		}
	})
}
