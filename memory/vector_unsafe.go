package memory

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxIovecs is the most pieces that one system call takes, UIO_MAXIOV.
const maxIovecs = 1024

// Preadv reads from a file into guest memory: see Guest.
func (r *RAM) Preadv(fd int, buf Ranges, off int64, flags int) (int, error) {
	return r.vector(unix.SYS_PREADV2, "preadv", fd, buf, off, flags)
}

// Pwritev writes guest memory to a file: see Guest.
func (r *RAM) Pwritev(fd int, buf Ranges, off int64, flags int) (int, error) {
	return r.vector(unix.SYS_PWRITEV2, "pwritev", fd, buf, off, flags)
}

// vector moves bytes between a file and the mapping of guest RAM, which the kernel
// accesses as this process.
func (r *RAM) vector(call uintptr, name string, fd int, buf Ranges, off int64, flags int) (n int, err error) {
	iov := make([]unix.Iovec, 0, len(buf)+1)
	for _, p := range buf {
		if err := r.layout.Access(name, p.GPA, int(p.Size)); err != nil {
			return 0, err
		}
		for gpa, left := p.GPA, uint64(p.Size); left > 0; {
			at, have, _ := r.layout.Find(gpa)
			k := min(have, left)
			iov = append(iov, unix.Iovec{Base: &r.mem[at], Len: k})
			gpa, left = gpa+GPA(k), left-k
		}
	}
	for len(iov) > 0 {
		part := iov[:min(len(iov), maxIovecs)]
		var want int
		for _, v := range part {
			want += int(v.Len)
		}
		// The offset is in two registers, of which the second is 0 on x86-64.
		got, _, errno := unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(part))), uintptr(len(part)), uintptr(off), 0, uintptr(flags))
		if errno != 0 {
			return n, fmt.Errorf("%s of %d bytes of guest memory: %w", name, want, errno)
		}
		n += int(got)
		if int(got) < want {
			break
		}
		if off >= 0 {
			off += int64(got)
		}
		iov = iov[len(part):]
	}
	return n, nil
}
