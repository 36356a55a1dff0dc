// Package fs is a virtio file system device, virtio 1.2 §5.11: a directory of the host
// for the guest. Package fuse has the file server. This one has its requests in
// virtqueues.
//
// Headers, names and attributes are copied. The data of files is not: the kernel moves
// it between a file's page cache and guest RAM.
package fs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/vmm/fuse"
	"offmap/vmm/virtio"
)

const (
	deviceID = 26 // virtio 1.2 §5.11.1

	// Queues, §5.11.2. Requests that must not wait for others are in hiprio.
	hiprio       = 0
	hiprioSize   = 128
	requestsSize = 512 // Linux makes requests of up to this many pages, less four

	// workers is how many requests are carried out at a time. A slow one holds up
	// no other until there are so many.
	workers = 16
)

// Share is the device. It implements virtio.Device.
type Share struct {
	tag      string
	server   *fuse.Server
	counters *virtio.Counters
}

// Open makes a device that shares a directory. The guest finds it by its tag. Unless
// it is writable, each request that changes something fails with EROFS.
//
// The guest acts with the rights of this process. What it makes is subject to the
// process's umask, and if the process is root, it belongs to the user in the guest who
// made it. The guest can't make device nodes or set-id files.
func Open(dir, tag string, writable bool) (*Share, error) {
	if err := protocol.CheckTag(tag); err != nil {
		return nil, fmt.Errorf("share of %s: %w", dir, err)
	}
	server, err := fuse.New(dir, fuse.Options{Writable: writable, Validity: fuse.Validity})
	if err != nil {
		return nil, fmt.Errorf("share: %w", err)
	}
	return &Share{tag: tag, server: server, counters: virtio.NewCounters(fuse.Kinds...)}, nil
}

// Name implements virtio.Device.
func (*Share) Name() string { return "fs" }

// ID implements virtio.Device.
func (*Share) ID() uint16 { return deviceID }

// Features implements virtio.Device.
func (*Share) Features() uint64 { return 0 }

// QueueSizes implements virtio.Device.
func (*Share) QueueSizes() []int { return []int{hiprio: hiprioSize, 1: requestsSize} }

// Config implements virtio.Device: struct virtio_fs_config, §5.11.4.
func (s *Share) Config() []byte {
	b := make([]byte, protocol.MaxTag)
	copy(b, s.tag)
	return binary.LittleEndian.AppendUint32(b, 1) // request queues
}

// Stats returns what the guest has asked for.
func (s *Share) Stats() virtio.Stats { return s.counters.Stats() }

// Close implements virtio.Device.
func (s *Share) Close() error { return s.server.Close() }

// Serve implements virtio.Device. Requests in hiprio are quick, so one goroutine is
// enough. Data that needn't wait for the host is moved at once: to wake a worker takes
// longer.
func (s *Share) Serve(i int, q *virtio.Queue, _ uint64) error {
	n := workers
	if i == hiprio {
		n = 1
	}
	var (
		busy   sync.WaitGroup
		failed = make(chan error, 1) // the first error of a worker
		free   = make(chan struct{}, n)
	)
	defer busy.Wait()
	for {
		c, err := q.Next()
		if errors.Is(err, virtio.ErrStopped) {
			return nil
		}
		if err != nil {
			return err
		}
		if c == nil {
			select {
			case err := <-failed:
				return err
			default:
				continue
			}
		}
		m := &message{guest: q.Guest(), in: c.Readable, out: c.Writable}
		r, err := s.server.Take(m)
		if err != nil {
			return err
		}
		if r.Data() {
			if err := s.answer(q, c, *r, m); !errors.Is(err, errWait) {
				if errors.Is(err, virtio.ErrStopped) {
					return nil
				}
				if err != nil {
					return err
				}
				continue
			}
		}
		free <- struct{}{}
		busy.Go(func() {
			defer func() { <-free }()
			m.mayWait = true
			if err := s.answer(q, c, *r, m); err != nil && !errors.Is(err, virtio.ErrStopped) {
				select {
				case failed <- err:
					q.Wake()
				default:
				}
			}
		})
	}
}

// errWait is answer's error for a request that can't be carried out without waiting.
var errWait = errors.New("it takes waiting for the host")

func (s *Share) answer(q *virtio.Queue, c *virtio.Chain, r fuse.Request, m *message) error {
	reply, err := s.server.Do(r)
	if m.waits {
		m.waits = false
		return errWait
	}
	if err != nil {
		return err
	}
	if err := c.Writable.CopyIn(m.guest, reply.Head); err != nil {
		return err
	}
	s.counters.Count(reply.Kind, m.read, m.written)
	return q.Done(c, uint32(len(reply.Head)+reply.Data))
}

// message is a request in guest RAM, and the room for its reply.
type message struct {
	guest         memory.Guest
	in, out       memory.Ranges
	read, written uint64 // bytes of data
	mayWait       bool   // for the host
	waits         bool   // it would have had to
}

// replyHeader is what comes before data in a reply, struct fuse_out_header.
const replyHeader = 16

func (m *message) Size() uint64 { return m.in.Size() }
func (m *message) Room() uint64 { return m.out.Size() }

func (m *message) CopyOut(p []byte, off uint64) error {
	_, rest := m.in.Cut(off)
	return rest.CopyOut(m.guest, p)
}

func (m *message) Preadv(fd int, off int64, n int) (got int, err error) {
	defer func() { m.read = uint64(got) }()
	read := func(flags int) (int, error) {
		return m.guest.Preadv(fd, piece(m.out, replyHeader+uint64(got), n-got), off+int64(got), flags)
	}
	if m.mayWait {
		return read(0)
	}
	if got, err = now(fd, read); err == nil && got < n {
		// It is the end of the file, if there is nothing after it either.
		var more int
		more, err = now(fd, read)
		m.waits = more > 0
	}
	m.waits = m.waits || err != nil
	return got, err
}

func (m *message) Pwritev(fd int, off int64, from uint64, n int, flags int) (put int, err error) {
	defer func() { m.written = uint64(put) }()
	write := func(more int) (int, error) {
		return m.guest.Pwritev(fd, piece(m.in, from, n), off, flags|more)
	}
	switch {
	case m.mayWait:
		return write(0)
	case n > maxInline, flags&unix.RWF_APPEND != 0: // a part of it can't be appended twice
		put, err = 0, unix.EAGAIN
	default:
		put, err = now(fd, write)
	}
	m.waits = err != nil || put < n
	return put, err
}

// maxInline is the size in bytes of the largest write that isn't left to a worker.
const maxInline = 128 << 10

// now makes a system call that doesn't wait for the host. Files in memory have no flag
// for that, and need none.
func now(fd int, call func(flags int) (int, error)) (int, error) {
	n, err := call(unix.RWF_NOWAIT)
	if errors.Is(err, unix.EOPNOTSUPP) && inMemory(fd) {
		return call(0)
	}
	return n, err
}

// inMemory reports whether a file's file system keeps its files in memory.
func inMemory(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && (fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC)
}

// piece returns n bytes of a buffer, from an offset on.
func piece(r memory.Ranges, from uint64, n int) memory.Ranges {
	_, rest := r.Cut(from)
	p, _ := rest.Cut(uint64(n))
	return p
}
