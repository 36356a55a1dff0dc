package memory

import (
	"fmt"
	"io"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxIovecs is the most pieces that one system call takes, UIO_MAXIOV.
const maxIovecs = 1024

// iovecs are the lists of pieces that system calls are given. They are reused, so
// that a request allocates nothing.
var iovecs = sync.Pool{New: func() any { return new([maxIovecs]unix.Iovec) }}

// Preadv reads from a file into guest memory: see Guest.
func (r *RAM) Preadv(fd int, buf Ranges, off int64, flags int) (int, error) {
	return r.vector(unix.SYS_PREADV2, "preadv", fd, buf, off, flags)
}

// Pwritev writes guest memory to a file: see Guest.
func (r *RAM) Pwritev(fd int, buf Ranges, off int64, flags int) (int, error) {
	return r.vector(unix.SYS_PWRITEV2, "pwritev", fd, buf, off, flags)
}

// vector moves bytes between a file and the mapping of guest RAM, which the kernel
// accesses as this process. A call may move fewer bytes than it was asked for: at
// the end of the file, past 2 GiB, or where the kernel could allocate a page no
// more. At a given offset, the call for the rest says which of them it was. Without
// one, a second call could wait for what the first has taken, and isn't made.
func (r *RAM) vector(call uintptr, op string, fd int, buf Ranges, off int64, flags int) (n int, err error) {
	if err := buf.Check(op, r.layout); err != nil {
		return 0, err
	}
	iov := iovecs.Get().(*[maxIovecs]unix.Iovec)
	defer iovecs.Put(iov)
	for size := buf.Size(); uint64(n) < size; {
		part := r.iovecs(iov[:0], buf, uint64(n))
		at := off
		if off >= 0 {
			at += int64(n)
		}
		// The offset is in two registers, of which the second is 0 on x86-64.
		got, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(len(part)), uintptr(at), 0, uintptr(flags))
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return n, fmt.Errorf("%s of %d bytes of %s guest memory: %w", op, size-uint64(n), r.backend.name, r.explain(errno, buf, uint64(n)))
		case got == 0 && call == unix.SYS_PREADV2:
			return n, nil // the end of the file
		case got == 0:
			return n, io.ErrShortWrite
		}
		n += int(got)
		if off < 0 {
			break
		}
	}
	return n, nil
}

// iovecs appends to iov what follows the first skip bytes of buf, which is checked,
// as pieces of the mapping. Pieces that touch there become one.
func (r *RAM) iovecs(iov []unix.Iovec, buf Ranges, skip uint64) []unix.Iovec {
	for _, p := range buf {
		if skip >= uint64(p.Size) {
			skip -= uint64(p.Size)
			continue
		}
		gpa, left := p.GPA+GPA(skip), uint64(p.Size)-skip
		skip = 0
		for left > 0 {
			at, have, _ := r.layout.Find(gpa)
			k := min(have, left)
			base := &r.mem[at]
			if last := len(iov) - 1; last >= 0 && unsafe.Add(unsafe.Pointer(iov[last].Base), iov[last].Len) == unsafe.Pointer(base) {
				iov[last].Len += k
			} else if len(iov) == cap(iov) {
				return iov
			} else {
				iov = append(iov, unix.Iovec{Base: base, Len: k})
			}
			gpa, left = gpa+GPA(k), left-k
		}
	}
	return iov
}

// explain says what a system call's EFAULT after n bytes of buf means.
func (r *RAM) explain(errno unix.Errno, buf Ranges, n uint64) error {
	if errno != unix.EFAULT {
		return errno
	}
	_, rest := buf.Cut(n)
	if err := rest.CopyOut(r, make([]byte, 1)); err != nil {
		return err // the page at which it stopped can't be allocated
	}
	return fmt.Errorf("the file can't be read or written through the page cache (it is open with O_DIRECT, or its file system works that way), "+
		"and without it the kernel needs pages of the direct map: %w", errno)
}
