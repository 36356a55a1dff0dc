package limits

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/memory"
)

// area is memory to try calls on. Unlike memory.RAM it has no advice, and no limit
// is raised for it.
type area struct {
	backend memory.Backend
	fd      int // -1 for memory.Anon
	mem     []byte
}

// newArea makes size bytes, not populated. If the host has no secret memory, or
// RLIMIT_MEMLOCK doesn't allow so much, the error matches ErrSkipped.
func newArea(b memory.Backend, size int) (*area, error) {
	a, err := openArea(b, size)
	if err != nil {
		return nil, err
	}
	if err := a.mmap(size); err != nil {
		a.Close()
		if errors.Is(err, unix.EAGAIN) {
			return nil, skipped("RLIMIT_MEMLOCK doesn't allow %d KiB of %s memory", size>>10, b)
		}
		return nil, fmt.Errorf("mmap of %d bytes of %s memory: %w", size, b, err)
	}
	return a, nil
}

// openArea makes an area's file and doesn't map it.
func openArea(b memory.Backend, size int) (_ *area, err error) {
	a := &area{backend: b, fd: -1}
	switch b {
	case memory.Anon:
		return a, nil
	case memory.Secret:
		a.fd, err = memory.MemfdSecret(unix.O_CLOEXEC)
	case memory.Memfd:
		a.fd, err = unix.MemfdCreate("offmap-limits", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		err = sandbox.Judge("memfd_create", err)
	default:
		return nil, fmt.Errorf("no area of %s memory", b)
	}
	if errors.Is(err, memory.ErrUnavailable) {
		return nil, skipped("%v", err)
	}
	if err != nil {
		return nil, fmt.Errorf("file of %s memory: %w", b, err)
	}
	if err := unix.Ftruncate(a.fd, int64(size)); err != nil {
		a.Close()
		return nil, fmt.Errorf("ftruncate of %s memory to %d bytes: %w", b, size, err)
	}
	return a, nil
}

// mmap maps the area's file, or anonymous memory for memory.Anon.
func (a *area) mmap(size int) (err error) {
	flags := unix.MAP_SHARED
	if a.backend == memory.Anon {
		flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	}
	a.mem, err = unix.Mmap(a.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	return err
}

// newPopulated makes an area and gives it all its pages.
func newPopulated(b memory.Backend, size int) (*area, error) {
	a, err := newArea(b, size)
	if err != nil {
		return nil, err
	}
	if n, err := a.populate(); err != nil {
		a.Close()
		return nil, skipped("%d KiB of %d KiB of %s memory: the kernel gives no more (%v)", n>>10, size>>10, b, err)
	}
	return a, nil
}

// populate populates the area by read(2) of zeros, which returns an error where a
// store would raise SIGBUS. It returns how many bytes it populated.
func (a *area) populate() (int, error) {
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return 0, err
	}
	defer zero.Close()
	for off := 0; off < len(a.mem); off += memory.PageSize {
		if _, err := unix.Read(int(zero.Fd()), a.mem[off:min(off+memory.PageSize, len(a.mem))]); err != nil {
			return off, fmt.Errorf("read(2) into it: %w", err)
		}
	}
	return len(a.mem), nil
}

// Close unmaps and frees the area.
func (a *area) Close() {
	if a.mem != nil {
		unix.Munmap(a.mem)
		a.mem = nil
	}
	if a.fd >= 0 {
		unix.Close(a.fd)
		a.fd = -1
	}
}
