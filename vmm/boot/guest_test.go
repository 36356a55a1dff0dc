package boot

import (
	"encoding/binary"
	"fmt"
	"testing"

	"offmap/memory"
)

// sparse is a memory.Guest of any size: pages exist once they are written.
type sparse struct {
	memory.Guest // the methods that loaders don't use
	layout       memory.Layout
	pages        map[memory.GPA]*[pageSize]byte
}

func newSparse(t testing.TB, regions ...memory.Region) *sparse {
	t.Helper()
	l, err := memory.LayoutOf(regions...)
	if err != nil {
		t.Fatal(err)
	}
	return &sparse{layout: l, pages: map[memory.GPA]*[pageSize]byte{}}
}

// pc is a guest with RAM as NewLayout has it.
func pc(t testing.TB, size uint64) *sparse {
	t.Helper()
	l, err := memory.NewLayout(size)
	if err != nil {
		t.Fatal(err)
	}
	return newSparse(t, l...)
}

func (s *sparse) Layout() memory.Layout { return s.layout }

func (s *sparse) ReadAt(p []byte, at memory.GPA) (int, error) { return s.access(p, at, false) }

func (s *sparse) WriteAt(p []byte, at memory.GPA) (int, error) { return s.access(p, at, true) }

func (s *sparse) access(p []byte, at memory.GPA, write bool) (int, error) {
	if !s.layout.Contains(at, uint64(len(p))) {
		return 0, fmt.Errorf("access at %s: %w", at, memory.ErrHole)
	}
	for n := 0; n < len(p); {
		page, in := at&^(pageSize-1), int(at&(pageSize-1))
		m := s.pages[page]
		if m == nil && write {
			m = new([pageSize]byte)
			s.pages[page] = m
		}
		k := min(len(p)-n, pageSize-in)
		switch {
		case write:
			copy(m[in:], p[n:n+k])
		case m == nil:
			clear(p[n : n+k])
		default:
			copy(p[n:n+k], m[in:])
		}
		n, at = n+k, at+memory.GPA(k)
	}
	return len(p), nil
}

func (s *sparse) bytes(t testing.TB, at memory.GPA, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := s.ReadAt(p, at); err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *sparse) u64(t testing.TB, at memory.GPA) uint64 {
	t.Helper()
	return binary.LittleEndian.Uint64(s.bytes(t, at, 8))
}

// translate walks c's page tables as the CPU does.
func (s *sparse) translate(t testing.TB, c CPU, linear uint64) (phys uint64, user, ok bool) {
	t.Helper()
	table, user := c.CR3, true
	for shift := 39; ; shift -= 9 {
		e := s.u64(t, memory.GPA(table+linear>>shift&0x1ff*8))
		if e&ptePresent == 0 {
			return 0, false, false
		}
		if e&pteWrite == 0 || e&pteAccessed == 0 {
			t.Fatalf("entry %#x for %#x isn't writable and accessed", e, linear)
		}
		user = user && e&pteUser != 0
		table = e &^ 0xfff
		if e&ptePS != 0 {
			if shift != 21 || e&pteDirty == 0 {
				t.Fatalf("entry %#x for %#x is no dirty 2 MiB page", e, linear)
			}
			return table + linear&(largePage-1), user, true
		}
		if shift == 21 {
			t.Fatalf("entry %#x for %#x leads to a fifth level", e, linear)
		}
	}
}
