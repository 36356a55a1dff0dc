package attach

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"
)

// secret is a secret file and the owner's mapping of it.
type secret struct {
	fd  int
	mem []byte
}

func newSecret(t *testing.T, size int) *secret {
	t.Helper()
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		t.Fatalf("memfd_secret: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatalf("ftruncate: %v", err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatalf("mmap of secret memory: %v", err)
	}
	t.Cleanup(func() { unix.Munmap(mem) })
	return &secret{fd, mem}
}

func TestBridgeView(t *testing.T) {
	s := newSecret(t, 1<<20)
	b := openBridge(t, s)
	view := b.bytes()

	copy(view[12345:], "through the view")
	if got := s.mem[12345:][:16]; !bytes.Equal(got, []byte("through the view")) {
		t.Errorf("owner reads %q", got)
	}
	copy(s.mem[700000:], "by the owner")
	if got := view[700000:][:12]; !bytes.Equal(got, []byte("by the owner")) {
		t.Errorf("view reads %q", got)
	}
}
