// Package bounce lends buffers in ordinary memory to devices whose files bypass the
// page cache. With O_DIRECT the kernel hands pages of the buffer to the disk, and it
// refuses hidden memory, which isn't in its direct map.
//
// What is in such a buffer is exposed to the host. So there is a fixed number of them.
// They are locked in memory, are kept out of core dumps and of children, and are wiped
// when they are given back. If the VMM is killed before that, a process of package
// scrubber wipes them.
package bounce

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/memory"
	"offmap/memory/attach/scrubber"
)

// Pool is a fixed number of buffers. Its methods are safe for concurrent use.
type Pool struct {
	size  int
	fd    int // a memfd, which the scrubber has too
	mem   []byte
	wiper *scrubber.Scrubber
	free  chan []byte

	mu        sync.Mutex
	now, peak uint64
}

// New makes count buffers of size bytes, a multiple of the page size. The error says
// what to do if RLIMIT_MEMLOCK doesn't allow for so much.
func New(count, size int) (*Pool, error) {
	p := &Pool{size: size, fd: -1, free: make(chan []byte, count)}
	if err := p.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("bounce buffers: %w", err), p.Close())
	}
	for i := range count {
		p.free <- p.mem[i*size : (i+1)*size : (i+1)*size]
	}
	return p, nil
}

func (p *Pool) open() (err error) {
	total := uint64(cap(p.free) * p.size)
	if p.size <= 0 || p.size%memory.PageSize != 0 || total == 0 {
		return fmt.Errorf("%d of %d bytes: they are whole pages", cap(p.free), p.size)
	}
	if p.fd, err = unix.MemfdCreate("offmap-bounce", unix.MFD_CLOEXEC); err != nil {
		return sandbox.Judge("memfd_create", err)
	}
	if err := unix.Ftruncate(p.fd, int64(total)); err != nil {
		return os.NewSyscallError("ftruncate", err)
	}
	if p.mem, err = memory.MapSecluded(p.fd, total); err != nil {
		return err
	}
	if err := unix.Mlock(p.mem); err != nil {
		return fmt.Errorf("mlock of %d KiB: %w: raise RLIMIT_MEMLOCK by that much (`ulimit -l` as root, memlock in /etc/security/limits.conf, or LimitMEMLOCK= of the service)",
			total>>10, sandbox.Suspect("mlock", err))
	}
	p.wiper, err = scrubber.Start(p.fd)
	return err
}

var errScrubber = errors.New("bounce buffers: the scrubber, which would wipe them if this process were killed, has ended")

// Get waits for a buffer and returns its first n bytes, at most the buffers' size, page
// aligned and zeros. The caller gives it back with Put, whatever happens.
func (p *Pool) Get(n int) ([]byte, error) {
	if n < 0 || n > p.size {
		return nil, fmt.Errorf("bounce buffers: %d bytes wanted, and a buffer has %d", n, p.size)
	}
	select {
	case <-p.wiper.Done():
		return nil, errScrubber
	default:
	}
	b := <-p.free
	p.mu.Lock()
	p.now += uint64(n)
	p.peak = max(p.peak, p.now)
	p.mu.Unlock()
	return b[:n], nil
}

// Put wipes a buffer that Get returned, in its full length, and takes it back.
func (p *Pool) Put(b []byte) {
	clear(b)
	p.mu.Lock()
	p.now -= uint64(len(b))
	p.mu.Unlock()
	p.free <- b[:p.size]
}

// Held returns how many bytes are lent, now and at most so far.
func (p *Pool) Held() (now, peak uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now, p.peak
}

// Close wipes and frees the buffers. Nobody has one any more.
func (p *Pool) Close() error {
	var errs []error
	if p.mem != nil {
		clear(p.mem)
		errs = append(errs, os.NewSyscallError("munmap", unix.Munmap(p.mem)))
		p.mem = nil
	}
	if p.wiper != nil {
		errs = append(errs, p.wiper.Close())
		p.wiper = nil
	}
	if p.fd >= 0 {
		errs = append(errs, os.NewSyscallError("close", unix.Close(p.fd)))
		p.fd = -1
	}
	return errors.Join(errs...)
}
