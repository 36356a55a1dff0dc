package memory

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// RAM is guest memory: a backend's pages behind a layout, mapped once into
// this process. It implements Guest.
//
// The pages are created by their first use and not before. They are kept out
// of core dumps and out of the memory of forked children.
type RAM struct {
	backend backend
	layout  Layout
	fd      int // -1 without a file
	mem     []byte

	once     sync.Once
	closeErr error
}

// New makes RAM of the layout's size. For Secret it first sees to it that
// RLIMIT_MEMLOCK allows that much, because past it the first touch of a page
// is a SIGBUS. Errors wrap ErrSecretDisabled, ErrSecretAbsent or
// ErrMemlock where that is the matter.
func New(b Backend, l Layout) (*RAM, error) {
	d, err := b.find()
	if err != nil {
		return nil, err
	}
	if l.Size() == 0 {
		return nil, ErrNoRegions
	}
	r := &RAM{backend: d, layout: l, fd: -1}
	if err := r.create(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *RAM) create() error {
	size := r.layout.Size()
	if err := checkHost(size, r.backend.locked); err != nil {
		return err
	}
	if r.backend.open != nil {
		fd, err := r.backend.open()
		if err != nil {
			return err
		}
		r.fd = fd
		if err := unix.Ftruncate(fd, int64(size)); err != nil {
			return fmt.Errorf("ftruncate of %s memory to %d bytes: %w", r.backend.name, size, err)
		}
	}
	if r.backend.locked {
		if err := raiseMemlock(size); err != nil {
			return err
		}
	}
	mem, err := unix.Mmap(r.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, r.backend.flags)
	if errors.Is(err, unix.EAGAIN) && r.backend.locked {
		return memlockError(size, memlockLimit())
	}
	if err != nil {
		return fmt.Errorf("mmap of %d bytes of %s memory: %w", size, r.backend.name, err)
	}
	r.mem = mem
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_DONTFORK} {
		if err := unix.Madvise(mem, advice); err != nil {
			return fmt.Errorf("madvise %d of guest memory: %w", advice, err)
		}
	}
	return nil
}

// Close unmaps and frees the memory. KVM slots and bridges over it are gone
// before. Secret memory is zeroed by the kernel as it is freed; ordinary
// memory is not.
func (r *RAM) Close() error {
	r.once.Do(func() {
		if r.mem != nil {
			if err := unix.Munmap(r.mem); err != nil {
				r.closeErr = fmt.Errorf("munmap of guest memory: %w", err)
			}
			r.mem = nil
		}
		if r.fd >= 0 {
			r.closeErr = errors.Join(r.closeErr, os.NewSyscallError("close", unix.Close(r.fd)))
		}
	})
	return r.closeErr
}

// Backend is where the memory is at rest.
func (r *RAM) Backend() Backend { return r.backend.name }

// Layout is the list of RAM regions.
func (r *RAM) Layout() Layout { return r.layout }

// FD is the file behind the memory, or -1. It stays RAM's own.
func (r *RAM) FD() int { return r.fd }

// ReadAt copies guest memory at address off into p.
func (r *RAM) ReadAt(p []byte, off int64) (int, error) {
	return r.access("read", off, p, func(p, mem []byte) { copy(p, mem) })
}

// WriteAt copies p to guest memory at address off.
func (r *RAM) WriteAt(p []byte, off int64) (int, error) {
	return r.access("write", off, p, func(p, mem []byte) { copy(mem, p) })
}

// access copies between p and the regions that it falls into. A page that the
// kernel refuses to give (no memory, RLIMIT_MEMLOCK of this uid used up by
// another process) raises SIGBUS in the copy, which is turned into an error.
func (r *RAM) access(op string, off int64, p []byte, copy func(p, mem []byte)) (n int, err error) {
	gpa, err := r.layout.Access(op, off, len(p))
	if err != nil {
		return 0, err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		e := recover()
		if e == nil {
			return
		}
		if _, fault := e.(interface{ Addr() uintptr }); !fault {
			panic(e)
		}
		err = fmt.Errorf("%s of %d bytes at guest address %s: the kernel gives no %s memory (out of memory, or RLIMIT_MEMLOCK): %w",
			op, len(p), gpa, r.backend.name, unix.EFAULT)
	}()
	for n < len(p) {
		off, have, _ := r.layout.Find(gpa + GPA(n))
		k := int(min(have, uint64(len(p)-n)))
		copy(p[n:n+k], r.mem[off:off+uint64(k)])
		n += k
	}
	return n, nil
}
