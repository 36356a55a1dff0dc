package blk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// maxInline is the size in bytes of the largest write that doesn't wait. Such a write
// is a copy into the page cache. It waits for the disk only if the host has too many
// dirty pages. To wake a worker takes longer.
const maxInline = 128 << 10

// file is a raw image, or a block device, through the host's page cache.
type file struct {
	fd int
	// cached says that the file is never anywhere but in memory.
	cached bool
}

// errShrunk is the error for a read past the end of a file that was larger.
var errShrunk = fmt.Errorf("the file ends before the disk does: %w", io.ErrUnexpectedEOF)

// read reads what is in the page cache. If not all of it is and it may wait, it
// reads the rest too.
func (f *file) read(g memory.Guest, buf memory.Ranges, off int64, wait bool) (uint64, error) {
	flags := 0
	if !wait && !f.cached {
		flags = unix.RWF_NOWAIT
	}
	n, err := g.Preadv(f.fd, buf, off, flags)
	switch {
	case flags != 0 && errors.Is(err, unix.EOPNOTSUPP):
		err = unix.EAGAIN // this file system can't tell
	case err == nil && uint64(n) < buf.Size():
		err = errShrunk
	}
	return uint64(n), err
}

func (f *file) write(g memory.Guest, buf memory.Ranges, off int64, wait bool) (uint64, error) {
	if !wait && buf.Size() > maxInline {
		return 0, unix.EAGAIN
	}
	n, err := g.Pwritev(f.fd, buf, off, 0)
	return uint64(n), err
}

func (f *file) zero(off, n int64, unmap bool) error {
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if unmap {
		mode = unix.FALLOC_FL_PUNCH_HOLE
	}
	err := fallocate(f.fd, mode, off, n)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeros, err := zeros()
	if err != nil {
		return err
	}
	for n > 0 {
		k, err := unix.Pwrite(f.fd, zeros[:min(n, int64(len(zeros)))], off)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("pwrite", err)
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}

// zeros returns zeros to write, aligned for O_DIRECT. They take no memory: it is the
// kernel's page of zeros, over and over.
var zeros = sync.OnceValues(func() ([]byte, error) {
	b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return b, os.NewSyscallError("mmap", err)
})

// discard frees whole blocks of the file system, and leaves parts of them alone.
func (f *file) discard(off, n int64) error {
	start, end := inner(off, n)
	if start >= end {
		return nil
	}
	err := fallocate(f.fd, unix.FALLOC_FL_PUNCH_HOLE, start, end-start)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// inner returns the whole pages of n bytes from off on. File systems have blocks of up
// to a page.
func inner(off, n int64) (start, end int64) {
	return (off + memory.PageSize - 1) &^ (memory.PageSize - 1), (off + n) &^ (memory.PageSize - 1)
}

// fallocate calls fallocate(2), which never changes the size. Its error is EOPNOTSUPP
// as well if a block device wants other boundaries.
func fallocate(fd int, mode uint32, off, n int64) error {
	for {
		switch err := unix.Fallocate(fd, mode|unix.FALLOC_FL_KEEP_SIZE, off, n); err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EINVAL:
			return os.NewSyscallError("fallocate", unix.EOPNOTSUPP)
		default:
			return os.NewSyscallError("fallocate", err)
		}
	}
}

func (f *file) flush() error {
	for {
		if err := unix.Fdatasync(f.fd); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

func (f *file) close() error { return os.NewSyscallError("close", unix.Close(f.fd)) }
