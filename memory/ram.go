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
// The first use of a page allocates it, except for Reserved and Removed, whose pages
// exist already. Memory that is not in the direct map is secluded as well (Seclude).
// Ordinary memory is left as the kernel makes it, to compare with.
type RAM struct {
	backend backend
	layout  Layout
	fd      int // -1 without a file
	mem     []byte

	once     sync.Once
	closeErr error
}

// New makes RAM of the layout's size in bytes. For Secret it first raises the
// process's RLIMIT_MEMLOCK as far as it may, unless KeepMemlock is set: past the
// limit, the first touch of a page is a SIGBUS. Where the host can't provide the
// memory, the error is ErrUnavailable and says what to do about it; it may wrap
// ErrSecretDisabled, ErrSecretAbsent, ErrMemlock, ErrTooLarge or a *sandbox.Error.
//
// GuestMemfd takes a VM: see NewFrom.
func New(b Backend, l Layout) (*RAM, error) { return NewFrom(b, l, nil) }

// NewFrom is New with a file that open makes, if open isn't nil: size bytes of
// zeros, which are mapped shared. RAM owns the descriptor. For GuestMemfd, open
// has the VM make the file.
func NewFrom(b Backend, l Layout, open func(size uint64) (fd int, err error)) (*RAM, error) {
	d, err := b.find()
	if err != nil {
		return nil, err
	}
	if l.Size() == 0 {
		return nil, ErrNoRegions
	}
	if open != nil {
		d.open = func(size uint64) (file, error) {
			fd, err := open(size)
			return file{fd: fd}, err
		}
	}
	r := &RAM{backend: d, layout: l, fd: -1}
	if err := r.create(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *RAM) create() error {
	b := r.backend
	size := (r.layout.Size() + b.page - 1) &^ (b.page - 1)
	if err := checkHost(size, b); err != nil {
		return err
	}
	var offset int64
	if b.open != nil {
		f, err := b.open(size)
		if err != nil {
			return err
		}
		r.fd, offset = f.fd, f.offset
	}
	if b.locked {
		if err := raiseMemlock(size); err != nil {
			return err
		}
	}
	mem, err := unix.Mmap(r.fd, offset, int(size), unix.PROT_READ|unix.PROT_WRITE, b.flags)
	if err != nil {
		err = fmt.Errorf("mmap of %d bytes of %s memory: %w", size, b.name, err)
		if b.refused != nil {
			err = b.refused(size, err)
		}
		return err
	}
	r.mem = mem
	if b.dirty {
		clear(mem) // the last user may have been killed before it could
	}
	if !b.exposed {
		return seclude(r.Pointer(), uint64(len(mem)), b.page == PageSize)
	}
	return nil
}

// Close unmaps and frees the memory. The caller has removed KVM slots and bridges
// over it before. The kernel zeroes secret memory as it frees it, and offmap.ko
// memory of Removed. Close zeroes Reserved memory; if this process is killed, its next user does. Nobody zeroes
// ordinary memory.
func (r *RAM) Close() error {
	r.once.Do(func() {
		if r.mem != nil {
			if r.backend.dirty {
				clear(r.mem)
			}
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

// Backend returns where the memory is at rest. It is never the zero value.
func (r *RAM) Backend() Backend { return r.backend.name }

// Layout returns the list of RAM regions.
func (r *RAM) Layout() Layout { return r.layout }

// FD returns the descriptor of the file behind the memory, or -1. RAM owns it.
func (r *RAM) FD() int { return r.fd }

// ReadAt copies guest memory at gpa into p.
func (r *RAM) ReadAt(p []byte, gpa GPA) (n int, err error) {
	off, have, ok := r.layout.Find(gpa)
	if ok && uint64(len(p)) <= have {
		defer r.fault("read", gpa, len(p), debug.SetPanicOnFault(true), &err)
		return load(p, r.mem[off:]), nil
	}
	return r.pieces("read", gpa, p, r.ReadAt)
}

// WriteAt copies p to guest memory at gpa.
func (r *RAM) WriteAt(p []byte, gpa GPA) (n int, err error) {
	off, have, ok := r.layout.Find(gpa)
	if ok && uint64(len(p)) <= have {
		defer r.fault("write", gpa, len(p), debug.SetPanicOnFault(true), &err)
		return store(r.mem[off:], p), nil
	}
	return r.pieces("write", gpa, p, r.WriteAt)
}

// pieces makes an access that isn't within one region, region by region.
func (r *RAM) pieces(op string, gpa GPA, p []byte, access func([]byte, GPA) (int, error)) (n int, err error) {
	if err := r.layout.Access(op, gpa, len(p)); err != nil {
		return 0, err
	}
	for n < len(p) && err == nil {
		_, have, _ := r.layout.Find(gpa + GPA(n))
		var k int
		k, err = access(p[n:n+int(min(have, uint64(len(p)-n)))], gpa+GPA(n))
		n += k
	}
	return n, err
}

// fault, deferred, turns the SIGBUS of a copy into an error: the kernel couldn't
// allocate a page (no memory, or other processes of the user have used up
// RLIMIT_MEMLOCK). It restores the goroutine's handling of faults.
func (r *RAM) fault(op string, gpa GPA, n int, handling bool, err *error) {
	debug.SetPanicOnFault(handling)
	e := recover()
	if e == nil {
		return
	}
	if _, fault := e.(interface{ Addr() uintptr }); !fault {
		panic(e)
	}
	*err = fmt.Errorf("%s of %d bytes at guest address %s: the kernel gives no %s memory (out of memory, or RLIMIT_MEMLOCK): %w",
		op, n, gpa, r.backend.name, unix.EFAULT)
}
