package blk

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/vmm/bounce"
)

// bounceSize is the size in bytes of a buffer that data passes through, on the way
// around the page cache. There is one for each worker.
const bounceSize = 128 << 10

// direct is a file that bypasses the page cache. Its data passes through a buffer in
// ordinary memory, since O_DIRECT takes pages of the direct map only.
type direct struct {
	*file
	pool  *bounce.Pool
	align int64 // bytes: of offsets and sizes, at most a page
	// edges is held for reading by a write of whole blocks, and for writing by one
	// of parts of blocks, which reads the rest of these first.
	edges sync.RWMutex
}

func newDirect(f *file, size int64, pool *bounce.Pool) (*direct, error) {
	if f.cached {
		return nil, errors.New("cache=none, and its file system keeps files in memory: it has nothing but a page cache")
	}
	flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(f.fd), unix.F_SETFL, flags|unix.O_DIRECT)
	}
	if errors.Is(err, unix.EINVAL) {
		return nil, errNoDirect
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	align, err := alignment(f.fd)
	if err != nil {
		return nil, err
	}
	if rest := size % align; rest != 0 {
		return nil, fmt.Errorf("cache=none, and %d bytes, which is not a multiple of the %d that its file system needs for that: truncate -s %%%d FILE adds %d bytes",
			size, align, align, align-rest)
	}
	// The page cache may have the secrets of an earlier run.
	if err := f.flush(); err != nil {
		return nil, err
	}
	if err := unix.Fadvise(f.fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, os.NewSyscallError("posix_fadvise", err)
	}
	return &direct{file: f, pool: pool, align: align}, nil
}

var errNoDirect = errors.New("cache=none, and its file system refuses O_DIRECT for it: use cache=buffered, or another file system")

// alignment returns what offsets and sizes have to be multiples of for O_DIRECT.
func alignment(fd int) (int64, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err != nil {
		return 0, os.NewSyscallError("statx", err)
	}
	if st.Mask&unix.STATX_DIOALIGN == 0 {
		return memory.PageSize, nil // the file system doesn't say
	}
	switch n := int64(st.Dio_offset_align); {
	case n == 0:
		return 0, errNoDirect
	case n > memory.PageSize || st.Dio_mem_align > memory.PageSize:
		return 0, fmt.Errorf("cache=none, and its file system needs O_DIRECT in blocks of %d bytes, more than a page: use cache=buffered", n)
	default:
		return max(n, sector), nil
	}
}

func (d *direct) read(g memory.Guest, buf memory.Ranges, off int64, wait bool) (done uint64, err error) {
	if !wait {
		return 0, unix.EAGAIN
	}
	return d.blocks(off, int64(buf.Size()), func(b []byte, at, skip, n int64) error {
		if err := d.pread(b, at, skip+n); err != nil {
			return err
		}
		part, rest := buf.Cut(uint64(n))
		buf = rest
		return part.CopyIn(g, b[skip:skip+n])
	})
}

func (d *direct) write(g memory.Guest, buf memory.Ranges, off int64, wait bool) (done uint64, err error) {
	if !wait {
		return 0, unix.EAGAIN
	}
	return d.change(off, int64(buf.Size()), func(b []byte) error {
		part, rest := buf.Cut(uint64(len(b)))
		buf = rest
		return part.CopyOut(g, b)
	})
}

// zero leaves parts of blocks of the file system to change, since fallocate(2) may zero
// these in the page cache.
func (d *direct) zero(off, n int64, unmap bool) error {
	start, end := inner(off, n)
	if start >= end {
		return d.clear(off, n)
	}
	return errors.Join(d.clear(off, start-off), d.file.zero(start, end-start, unmap), d.clear(end, off+n-end))
}

func (d *direct) clear(off, n int64) error {
	_, err := d.change(off, n, func(b []byte) error { clear(b); return nil })
	return err
}

// change writes n bytes from off on, a buffer at a time, which fill fills. It returns
// how many it has written.
func (d *direct) change(off, n int64, fill func(b []byte) error) (done uint64, err error) {
	return d.blocks(off, n, func(b []byte, at, skip, n int64) error {
		if skip == 0 && n == int64(len(b)) {
			d.edges.RLock()
			defer d.edges.RUnlock()
		} else {
			d.edges.Lock()
			defer d.edges.Unlock()
			if err := d.pread(b, at, int64(len(b))); err != nil {
				return err
			}
		}
		if err := fill(b[skip : skip+n]); err != nil {
			return err
		}
		return d.pwrite(b, at)
	})
}

// blocks cuts n bytes from off on into pieces that fit a buffer. do is given a buffer for
// the whole blocks from at on, in which the piece is the n bytes from skip on. blocks
// returns how many bytes are done.
func (d *direct) blocks(off, n int64, do func(b []byte, at, skip, n int64) error) (done uint64, err error) {
	for n > 0 {
		at := off &^ (d.align - 1)
		skip := off - at
		k := min(n, bounceSize-skip)
		b, err := d.pool.Get(int((skip + k + d.align - 1) &^ (d.align - 1)))
		if err != nil {
			return done, err
		}
		err = do(b, at, skip, k)
		d.pool.Put(b)
		if err != nil {
			return done, err
		}
		off, n, done = off+k, n-k, done+uint64(k)
	}
	return done, nil
}

// pread reads into b, of which it needs n bytes.
func (d *direct) pread(b []byte, at, need int64) error {
	for {
		n, err := unix.Pread(d.fd, b, at)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("pread", err)
		case int64(n) < need:
			return errShrunk
		default:
			return nil
		}
	}
}

func (d *direct) pwrite(b []byte, at int64) error {
	for {
		n, err := unix.Pwrite(d.fd, b, at)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("pwrite", err)
		case n < len(b):
			// O_DIRECT writes all, or the disk is full: the next one says so.
			if n%int(d.align) != 0 {
				return unix.EIO
			}
			b, at = b[n:], at+int64(n)
		default:
			return nil
		}
	}
}
