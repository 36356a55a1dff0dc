package attach

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What the owner may do to its mapping. Pages that are in the view stay there;
// what isn't needs the mapping where it was when it was bound, and is a SIGBUS
// while that is away.
func TestBridgeWithoutOwner(t *testing.T) {
	needBridge(t)
	other := newSecret(t, 8*page)
	for _, tt := range []struct {
		name string
		// away replaces the owner's mapping.
		away func(t *testing.T, s *secret)
	}{
		{"unmapped", func(t *testing.T, s *secret) { unmap(t, s.mem) }},
		{"anonymous memory there", func(t *testing.T, s *secret) {
			mapOver(t, s.mem, -1, 0, unix.MAP_PRIVATE|unix.MAP_ANON)
		}},
		{"another secret file there", func(t *testing.T, s *secret) {
			mapOver(t, s.mem, other.fd, 0, unix.MAP_SHARED)
		}},
		{"another part of the file there", func(t *testing.T, s *secret) {
			mapOver(t, s.mem, s.fd, 8*page, unix.MAP_SHARED)
		}},
		{"moved", func(t *testing.T, s *secret) {
			moved, err := remap(s.mem, len(s.mem), len(s.mem), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED,
				mapShared(t, other.fd, 0, len(s.mem)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unmap(t, moved) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd := secretFile(t, 16*page)
			s := &secret{fd, mapShared(t, fd, 0, 8*page)}
			view := viewOf(t, s).bytes()
			view[0], s.mem[page] = 'x', 'y'
			if v, err := load(view, page); v != 'y' || err != nil {
				t.Fatalf("view reads %q, %v", v, err)
			}

			tt.away(t, s)
			if v, err := load(view, 0); v != 'x' || err != nil {
				t.Errorf("a page of the view: %q, %v", v, err)
			}
			if v, err := load(view, page); v != 'y' || err != nil {
				t.Errorf("a page of the view and the owner: %q, %v", v, err)
			}
			for i := 2; i < 8; i++ {
				if err := store(view, i*page, 'z'); err == nil {
					t.Errorf("page %d: populated without its owner", i)
				}
				if _, err := load(view, i*page); err == nil {
					t.Errorf("page %d: populated without its owner", i)
				}
			}

			mapOver(t, s.mem, fd, 0, unix.MAP_SHARED)
			if err := store(view, 2*page, 'z'); err != nil || s.mem[2*page] != 'z' {
				t.Errorf("with the owner back: %v, owner reads %q", err, s.mem[2*page])
			}
			if s.mem[0] != 'x' {
				t.Errorf("owner, back, reads %q", s.mem[0])
			}
		})
	}
}

// The owner needs no access to its own mapping, and may change it piecemeal.
func TestBridgeOwnerProtected(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 8*page)
	view := viewOf(t, s).bytes()
	if err := mprotect(s.mem[2*page:5*page], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := store(view, i*page, byte(i+1)); err != nil {
			t.Errorf("page %d: %v", i, err)
		}
	}
	if err := mprotect(s.mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if s.mem[i*page] != byte(i+1) {
			t.Errorf("page %d: owner reads %d", i, s.mem[i*page])
		}
	}
}

// The view can move, in whole or in part, and still knows its pages.
func TestBridgeMoves(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 8*page)
	dev := openDevice(t)
	req := s.request()
	if err := bind(dev, &req); err != nil {
		t.Fatal(err)
	}
	view := mapShared(t, dev, 0, 8*page)
	for i := 0; i < 8; i += 2 {
		view[i*page] = byte('a' + i)
	}
	room := mapShared(t, s.fd, 0, 4*page)
	part, err := remap(view[4*page:], 4*page, 4*page, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED, room)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 4; i += 2 {
		part[i*page] = byte('a' + 4 + i)
		view[i*page] = byte('a' + i)
	}
	for i := range 8 {
		if s.mem[i*page] != byte('a'+i) {
			t.Errorf("page %d: owner reads %q", i, s.mem[i*page])
		}
	}
	if _, err := load(view, 4*page); err == nil {
		t.Error("the part that moved is still there")
	}
}
