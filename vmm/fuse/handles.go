package fuse

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// handle is an open file or directory. Requests that use its position or close it
// have it for themselves.
type handle struct {
	mu   sync.RWMutex
	fd   int // -1 when closed
	node uint64
}

// handles are the open files of one client.
type handles struct {
	mu   sync.Mutex
	open map[uint64]*handle
	last uint64
}

// descriptors counts the handles of all servers in this process.
var descriptors atomic.Int64

// maxDescriptors is the most handles that clients may have, half of this process's
// descriptors. Clients must not take those that the process itself needs.
var maxDescriptors = sync.OnceValue(func() int64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 256
	}
	return int64(min(l.Cur, 1<<20) / 2)
})

func (t *handles) get(id uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[id]
}

// add takes a descriptor over. If there are too many, it fails.
func (t *handles) add(h *handle) (uint64, error) {
	if descriptors.Add(1) > maxDescriptors() {
		h.close()
		return 0, unix.ENFILE
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[uint64]*handle{}
	}
	t.last++
	t.open[t.last] = h
	return t.last, nil
}

func (t *handles) remove(id uint64) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.open[id]
	delete(t.open, id)
	return h
}

// reset closes all handles. It waits for requests that use them.
func (t *handles) reset() {
	t.mu.Lock()
	open := t.open
	t.open = nil
	t.mu.Unlock()
	for _, h := range open {
		h.close()
	}
}

func (h *handle) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	err := unix.Close(h.fd)
	h.fd = -1
	descriptors.Add(-1)
	return err
}

// use calls f with the descriptor, which stays open meanwhile.
func (h *handle) use(f func(fd int) error) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.fd < 0 {
		return unix.EBADF
	}
	return f(h.fd)
}

// dup returns a second descriptor of the handle's file.
func (h *handle) dup() (f *file, err error) {
	err = h.use(func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f, err = newFile(dup)
		}
		return err
	})
	return f, err
}

// opened makes a handle of a descriptor.
func (s *Server) opened(node uint64, fd int) (openOut, error) {
	h := &handle{fd: fd, node: node}
	id, err := s.handles.add(h)
	if err != nil {
		return openOut{}, err
	}
	s.tree.opened(node, h)
	out := openOut{Handle: id}
	if s.options.Validity > 0 {
		out.Flags = openKeepCache // the client drops it when size or time of change differ
	}
	return out, nil
}

func (s *Server) open(r *Request) (any, error) {
	in, err := take[openIn](r)
	if err != nil {
		return nil, err
	}
	f, err := s.reach(r.Node)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if r.Opcode == opOpendir && !f.is(unix.S_IFDIR) {
		return nil, unix.ENOTDIR
	}
	fd, err := s.openFile(f, in.Flags)
	if err != nil {
		return nil, err
	}
	return s.opened(r.Node, fd)
}

func (s *Server) create(r *Request) (any, error) {
	in, err := take[createIn](r)
	if err != nil {
		return nil, err
	}
	dir, name, err := s.named(r)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	// With O_EXCL first, because only a file that is made here gets the caller's
	// owner.
	flags := int(in.Flags)&openFlags | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir.fd, name, flags, s.modeOf(in.Mode, false))
	var st unix.Statx_t
	switch {
	case err == nil:
		err = s.created(r, dir, fd, &st)
	case errors.Is(err, unix.EEXIST) && in.Flags&unix.O_EXCL == 0:
		var f *file
		if f, err = entryAt(dir.fd, name); err != nil {
			return nil, err
		}
		defer f.close()
		st = f.Statx_t
		fd, err = s.openFile(f, in.Flags)
	}
	if err != nil {
		return nil, err
	}
	e, err := s.entry(r.Node, name, &st)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	open, err := s.opened(e.Node, fd)
	if err != nil {
		s.tree.forget(e.Node, 1)
		return nil, err
	}
	return append(encode(e), encode(open)...), nil
}

// created gives a file that was made here its owner, and asks for its attributes. If
// it fails, it closes the file.
func (s *Server) created(r *Request, dir *file, fd int, st *unix.Statx_t) error {
	f := file{fd: fd}
	err := stat(fd, "", &f.Statx_t)
	if err == nil {
		err = r.own(dir, &f)
	}
	if err != nil {
		f.close()
	}
	*st = f.Statx_t
	return err
}

func (s *Server) release(r *Request) error {
	in, err := take[releaseIn](r)
	if err != nil {
		return err
	}
	h := s.handles.remove(in.Handle)
	if h == nil {
		return unix.EBADF
	}
	s.tree.released(h.node, h)
	return h.close()
}

// using takes a structure with a handle's number, and calls f with its descriptor.
func using[T any](s *Server, r *Request, id func(T) uint64, f func(fd int, in T) error) error {
	in, err := take[T](r)
	if err != nil {
		return err
	}
	h := s.handles.get(id(in))
	if h == nil {
		return unix.EBADF
	}
	return h.use(func(fd int) error { return f(fd, in) })
}

func (s *Server) fsync(r *Request) error {
	return using(s, r, func(in fsyncIn) uint64 { return in.Handle }, func(fd int, in fsyncIn) error {
		if in.Flags&fsyncDataOnly != 0 {
			return unix.Fdatasync(fd)
		}
		return unix.Fsync(fd)
	})
}

func (s *Server) fallocate(r *Request) error {
	return using(s, r, func(in fallocateIn) uint64 { return in.Handle }, func(fd int, in fallocateIn) error {
		return unix.Fallocate(fd, in.Mode, int64(in.Offset), int64(in.Length))
	})
}

// lseek finds data and holes. The client does all other seeking itself.
func (s *Server) lseek(r *Request) (any, error) {
	var out lseekOut
	err := using(s, r, func(in lseekIn) uint64 { return in.Handle }, func(fd int, in lseekIn) error {
		if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE {
			return unix.EINVAL
		}
		at, err := unix.Seek(fd, int64(in.Offset), int(in.Whence))
		out.Offset = uint64(at)
		return err
	})
	return out, err
}
