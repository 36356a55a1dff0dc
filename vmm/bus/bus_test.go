package bus

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"testing"
)

// recorder is a device that notes accesses; reads give the offset.
type recorder struct {
	calls []call
}

type call struct {
	write bool
	off   uint64
	data  string
}

func (r *recorder) Read(off uint64, p []byte) {
	for i := range p {
		p[i] = byte(off) + byte(i)
	}
	r.calls = append(r.calls, call{false, off, string(p)})
}

func (r *recorder) Write(off uint64, p []byte) {
	r.calls = append(r.calls, call{true, off, string(p)})
}

func TestAdd(t *testing.T) {
	const top = math.MaxUint64
	tests := []struct {
		name       string
		base, size uint64
		overlap    bool
		ok         bool
	}{
		{"apart", 0x100, 8, false, true},
		{"touches the end", 0x208, 8, false, true},
		{"touches the start", 0x1f8, 8, false, true},
		{"same", 0x200, 8, true, false},
		{"inside", 0x202, 1, true, false},
		{"around", 0x100, 0x1000, true, false},
		{"last byte", 0x207, 8, true, false},
		{"first byte", 0x1f9, 8, true, false},
		{"empty", 0x300, 0, false, false},
		{"wraps", top, 2, false, false},
		{"up to the end of all addresses", top - 7, 8, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b Bus
			if err := b.Add("first", 0x200, 8, &recorder{}); err != nil {
				t.Fatal(err)
			}
			d := &recorder{}
			err := b.Add("second", tt.base, tt.size, d)
			if (err == nil) != tt.ok || errors.Is(err, ErrOverlap) != tt.overlap {
				t.Fatalf("Add: %v", err)
			}
			if err == nil {
				b.Write(tt.base+tt.size-1, []byte{1})
				if want := []call{{true, tt.size - 1, "\x01"}}; !slices.Equal(d.calls, want) {
					t.Errorf("got %v, want %v", d.calls, want)
				}
			}
		})
	}
}

func TestAccess(t *testing.T) {
	var b Bus
	low, high := &recorder{}, &recorder{}
	for _, d := range []struct {
		base, size uint64
		dev        Device
	}{{0xcf9, 1, high}, {0x3f8, 8, low}} {
		if err := b.Add("device", d.base, d.size, d.dev); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name   string
		addr   uint64
		size   int
		dev    *recorder // nil: nobody's
		offset uint64
	}{
		{"first byte", 0x3f8, 1, low, 0},
		{"last byte", 0x3ff, 1, low, 7},
		{"wide", 0x3fa, 4, low, 2},
		{"all of it", 0x3f8, 8, low, 0},
		{"before", 0x3f7, 1, nil, 0},
		{"after", 0x400, 1, nil, 0},
		{"leaves at the end", 0x3fe, 4, nil, 0},
		{"enters from below", 0xcf8, 4, nil, 0},
		{"one byte device", 0xcf9, 1, high, 0},
		{"too wide for it", 0xcf9, 2, nil, 0},
		{"nowhere", 0xffff, 1, nil, 0},
		{"end of all addresses", math.MaxUint64, 8, nil, 0},
		{"no bytes", 0x3f8, 0, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			low.calls, high.calls = nil, nil
			got, data := bytes.Repeat([]byte{0xee}, tt.size), bytes.Repeat([]byte{7}, tt.size)
			b.Read(tt.addr, got)
			b.Write(tt.addr, data)
			all := append(low.calls, high.calls...)
			if tt.dev == nil {
				if len(all) != 0 {
					t.Errorf("a device saw %v", all)
				}
				if !bytes.Equal(got, bytes.Repeat([]byte{0xff}, tt.size)) {
					t.Errorf("read % x, not all ones", got)
				}
			} else if want := []call{{false, tt.offset, string(got)}, {true, tt.offset, string(data)}}; !slices.Equal(tt.dev.calls, want) || len(all) != 2 {
				t.Errorf("device saw %v, want %v", all, want)
			}
		})
	}
}

func TestNoAllocations(t *testing.T) {
	var b Bus
	if err := b.Add("device", 0x3f8, 8, nothing{}); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	if n := testing.AllocsPerRun(100, func() { b.Read(0x3f8, p); b.Write(0x3f9, p); b.Read(0x10, p) }); n != 0 {
		t.Errorf("%v allocations per access", n)
	}
}

type nothing struct{}

func (nothing) Read(uint64, []byte)  {}
func (nothing) Write(uint64, []byte) {}

// within fails the test if the bus lets an access out of its device's range.
type within struct {
	t    *testing.T
	size uint64
}

func (d within) check(off uint64, p []byte) {
	if len(p) == 0 || off >= d.size || uint64(len(p)) > d.size-off {
		d.t.Errorf("access of %d bytes at offset %d of %d", len(p), off, d.size)
	}
}
func (d within) Read(off uint64, p []byte)  { d.check(off, p) }
func (d within) Write(off uint64, p []byte) { d.check(off, p) }

func FuzzAccess(f *testing.F) {
	f.Add(uint64(0x3f8), uint64(8), uint64(0xcf9), uint64(1), uint64(0xcf8), uint8(4))
	f.Add(uint64(math.MaxUint64), uint64(1), uint64(0), uint64(math.MaxUint64), uint64(math.MaxUint64), uint8(1))
	f.Fuzz(func(t *testing.T, base1, size1, base2, size2, addr uint64, n uint8) {
		var b Bus
		b.Add("one", base1, size1, within{t, size1})
		b.Add("two", base2, size2, within{t, size2})
		p := make([]byte, n)
		b.Read(addr, p)
		b.Write(addr, p)
	})
}
