package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
	"offmap/internal/process/sandbox"
)

// ioUring has the VMM register its memory with a ring as a fixed buffer. The
// attacker has the ring too, and then reads the memory without the VMM.
var ioUring = Avenue{
	Name: "io-uring-fixed", Attack: attackIOUring,
	About: "has the VMM register its memory with an io_uring of the attacker's, who writes it to a file by IORING_OP_WRITE_FIXED",
}

// ringChunk is how many bytes are registered at a time: few, since they count
// against RLIMIT_MEMLOCK.
const ringChunk = 256 << 10

func attackIOUring(ctx context.Context, t Target) (Finding, error) {
	const sysctl = "/proc/sys/kernel/io_uring_disabled"
	if b, err := os.ReadFile(sysctl); err == nil && strings.TrimSpace(string(b)) == "2" {
		return Finding{}, unavailable("io_uring is switched off: sysctl kernel.io_uring_disabled=0")
	}
	file, err := unix.MemfdCreate("offmap-audit", unix.MFD_CLOEXEC)
	if err != nil {
		return Finding{}, fmt.Errorf("memfd_create: %w", err)
	}
	defer func() {
		unix.Pwrite(file, make([]byte, ringChunk), 0)
		unix.Close(file)
	}()
	return t.inject(ctx, func(th *inject.Thread) (Finding, error) {
		r, err := newRing(th)
		if err != nil {
			return Finding{}, err
		}
		defer r.close()
		var files error
		f, err := t.sweep(ctx, ringChunk, func(p []byte, addr uint64) (n int, err error) {
			iov, err := th.Put(remoteIovec(addr, len(p)))
			if err != nil {
				return 0, err
			}
			_, err = th.Call(unix.SYS_IO_URING_REGISTER, r.theirs, registerBuffers, iov, 1)
			if errors.Is(err, unix.EOPNOTSUPP) {
				files = err // old kernels take no mapped files, such as the VMM's own data
				return 0, nil
			}
			if err != nil {
				return 0, err
			}
			defer func() {
				_, e := th.Call(unix.SYS_IO_URING_REGISTER, r.theirs, unregisterBuffers, 0, 0)
				err = errors.Join(err, e)
			}()
			if n, err = r.writeFixed(file, addr, len(p)); err != nil {
				return 0, err
			}
			return unix.Pread(file, p[:n], 0)
		})
		f.refused(files) // if nothing else was
		return f, err
	})
}

// ring is an io_uring of the VMM's that the attacker has mapped, io_uring_setup(2).
type ring struct {
	theirs uint64 // the VMM's descriptor
	fd     int
	params ringParams
	mem    []byte // the submission queue's ring, and the completion queue's
	sqes   []byte
}

// linux/io_uring.h.
const (
	registerBuffers   = 0 // IORING_REGISTER_BUFFERS
	unregisterBuffers = 1 // IORING_UNREGISTER_BUFFERS
	opWriteFixed      = 5 // IORING_OP_WRITE_FIXED
	enterGetEvents    = 1 // IORING_ENTER_GETEVENTS
	featSingleMmap    = 1 // IORING_FEAT_SINGLE_MMAP
	offSQRing         = 0
	offSQEs           = 0x10000000
	sqeSize           = 64
	cqeSize           = 16
	ringEntries       = 1
)

// ringParams is struct io_uring_params, as far as it is used: the offsets of
// what the rings hold.
type ringParams [120]byte

func (p *ringParams) word(at int) uint32 { return binary.LittleEndian.Uint32(p[at:]) }
func (p *ringParams) sqEntries() uint32  { return p.word(0) }
func (p *ringParams) cqEntries() uint32  { return p.word(4) }
func (p *ringParams) features() uint32   { return p.word(20) }
func (p *ringParams) sqTail() uint32     { return p.word(40 + 4) }
func (p *ringParams) sqMask() uint32     { return p.word(40 + 8) }
func (p *ringParams) sqArray() uint32    { return p.word(40 + 24) }
func (p *ringParams) cqHead() uint32     { return p.word(80) }
func (p *ringParams) cqTail() uint32     { return p.word(80 + 4) }
func (p *ringParams) cqMask() uint32     { return p.word(80 + 8) }
func (p *ringParams) cqes() uint32       { return p.word(80 + 20) }

// newRing has the VMM make a ring, and maps it.
func newRing(th *inject.Thread) (_ *ring, err error) {
	r := &ring{fd: -1}
	addr, err := th.Put(r.params[:])
	if err != nil {
		return nil, err
	}
	r.theirs, err = th.Call(unix.SYS_IO_URING_SETUP, ringEntries, addr)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		return nil, unavailable("io_uring_setup: %v (no CONFIG_IO_URING, or kernel.io_uring_disabled)", sandbox.Suspect("io_uring_setup", err))
	}
	if err != nil {
		return nil, err
	}
	th.CloseAtEnd(int(r.theirs))
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := th.Get(r.params[:]); err != nil {
		return nil, err
	}
	if r.params.features()&featSingleMmap == 0 {
		return nil, unavailable("io_uring of a kernel before 5.4")
	}
	if r.fd, err = th.Take(int(r.theirs)); err != nil {
		return nil, err
	}
	size := max(r.params.sqArray()+4*r.params.sqEntries(), r.params.cqes()+cqeSize*r.params.cqEntries())
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED
	if r.mem, err = unix.Mmap(r.fd, offSQRing, int(size), prot, flags); err != nil {
		return nil, fmt.Errorf("mmap of the VMM's ring: %w", err)
	}
	if r.sqes, err = unix.Mmap(r.fd, offSQEs, int(sqeSize*r.params.sqEntries()), prot, flags); err != nil {
		return nil, fmt.Errorf("mmap of the VMM's submission queue: %w", err)
	}
	return r, nil
}

func (r *ring) close() {
	if r.sqes != nil {
		unix.Munmap(r.sqes)
	}
	if r.mem != nil {
		unix.Munmap(r.mem)
	}
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
}

// word is a word of the rings. The kernel reads and changes them only in a system
// call of this thread, so they need no memory barriers.
func (r *ring) word(at uint32) []byte { return r.mem[at : at+4] }

func (r *ring) load(at uint32) uint32 { return binary.LittleEndian.Uint32(r.word(at)) }

// writeFixed writes n bytes at addr, in the VMM's fixed buffer 0, to the start of
// a file of this process.
func (r *ring) writeFixed(fd int, addr uint64, n int) (int, error) {
	p := &r.params
	tail := r.load(p.sqTail())
	slot := tail & r.load(p.sqMask())
	sqe := r.sqes[sqeSize*slot:][:sqeSize]
	clear(sqe)
	sqe[0] = opWriteFixed
	binary.LittleEndian.PutUint32(sqe[4:], uint32(fd))
	binary.LittleEndian.PutUint64(sqe[16:], addr)
	binary.LittleEndian.PutUint32(sqe[24:], uint32(n))
	binary.LittleEndian.PutUint32(r.word(p.sqArray()+4*slot), slot)
	binary.LittleEndian.PutUint32(r.word(p.sqTail()), tail+1)
	head := r.load(p.cqHead())
	submit := uintptr(1)
	for r.load(p.cqTail()) == head {
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), submit, 1, enterGetEvents, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return 0, fmt.Errorf("io_uring_enter: %w", errno)
		}
		if errno == 0 {
			submit = 0
		}
	}
	result := int32(r.load(p.cqes() + cqeSize*(head&r.load(p.cqMask())) + 8))
	binary.LittleEndian.PutUint32(r.word(p.cqHead()), head+1)
	if result < 0 {
		return 0, fmt.Errorf("IORING_OP_WRITE_FIXED: %w", unix.Errno(-result))
	}
	return int(result), nil
}
