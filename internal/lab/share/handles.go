package share

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// handle is an open file or directory.
type handle struct {
	file *os.File
	node uint64
	mu   sync.Mutex // guards a directory's position
}

func (s *server) handle(id uint64) *handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handles[id]
}

// opened makes a handle for a descriptor.
func (s *server) opened(node uint64, fd int, path string) openOut {
	h := &handle{file: os.NewFile(uintptr(fd), path), node: node}
	s.tree.opened(node, h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.handles[s.last] = h
	return openOut{Handle: s.last}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.handles {
		h.file.Close()
	}
}

// descriptor calls f with the descriptor, which stays open meanwhile.
func (h *handle) descriptor(f func(fd int) error) error {
	c, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := c.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}

// flags returns the flags to open a file with on this host. O_DIRECT is left out,
// because it would require aligned buffers of this process. O_APPEND is left out,
// because the machine's kernel says where to write.
func flags(theirs uint32) int {
	return int(theirs)&^(unix.O_DIRECT|unix.O_APPEND|unix.O_CREAT|unix.O_EXCL|unix.O_NOCTTY) | unix.O_CLOEXEC | unix.O_NOFOLLOW
}

func (s *server) open(r *request) (any, error) {
	in, err := take[openIn](r)
	if err != nil {
		return nil, err
	}
	s.names.RLock()
	defer s.names.RUnlock()
	path, by, err := s.reach(r.Node, nil)
	if err != nil {
		return nil, err
	}
	how := flags(in.Flags)
	if r.Opcode == opOpendir {
		how |= unix.O_DIRECTORY
	}
	if by != nil {
		how &^= unix.O_NOFOLLOW // path is a link in /proc
	}
	fd, err := unix.Open(path, how, 0)
	if err != nil {
		return nil, err
	}
	return s.opened(r.Node, fd, path), nil
}

func (s *server) create(r *request) (any, error) {
	in, err := take[createIn](r)
	if err != nil {
		return nil, err
	}
	s.names.RLock()
	defer s.names.RUnlock()
	path, name, err := s.at(r)
	if err != nil {
		return nil, err
	}
	// With O_EXCL first, because only a file that was made here gets the
	// caller's owner.
	how := flags(in.Flags)
	fd, err := unix.Open(path, how|unix.O_CREAT|unix.O_EXCL, in.Mode)
	switch {
	case err == nil:
		r.own(path)
	case errors.Is(err, unix.EEXIST) && in.Flags&unix.O_EXCL == 0:
		fd, err = unix.Open(path, how, 0)
	}
	if err != nil {
		return nil, err
	}
	e, err := s.entry(r.Node, name, path)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return append(encode(e), encode(s.opened(e.Node, fd, path))...), nil
}

// using takes a structure with a handle's number, and finds the handle.
func using[T any](s *server, r *request, id func(T) uint64) (in T, h *handle, err error) {
	if in, err = take[T](r); err != nil {
		return in, nil, err
	}
	if h = s.handle(id(in)); h == nil {
		return in, nil, unix.EBADF
	}
	return in, h, nil
}

func (s *server) read(r *request) (any, error) {
	in, h, err := using(s, r, func(in transferIn) uint64 { return in.Handle })
	if err != nil {
		return nil, err
	}
	p := make([]byte, min(in.Size, maxWrite))
	n, err := h.file.ReadAt(p, int64(in.Offset))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return p[:n], err
}

func (s *server) write(r *request) (any, error) {
	in, h, err := using(s, r, func(in transferIn) uint64 { return in.Handle })
	if err != nil {
		return nil, err
	}
	if uint64(len(r.body)) < uint64(in.Size) {
		return nil, unix.EINVAL
	}
	n, err := h.file.WriteAt(r.body[:in.Size], int64(in.Offset))
	if n > 0 {
		err = nil // the count says that the write was short
	}
	return writeOut{Size: uint32(n)}, err
}

// readdir returns entries from an offset on. Offsets are those of the directory on
// this host.
func (s *server) readdir(r *request) (any, error) {
	in, h, err := using(s, r, func(in transferIn) uint64 { return in.Handle })
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	size := int(min(in.Size, maxWrite))
	buf := make([]byte, size)
	var n int
	err = h.descriptor(func(fd int) (err error) {
		if _, err := unix.Seek(fd, int64(in.Offset), io.SeekStart); err != nil {
			return err
		}
		n, err = unix.Getdents(fd, buf)
		return err
	})
	return translate(buf[:n], size), err
}

// translate turns entries of getdents64(2) into FUSE's, as many as fit in size
// bytes. The next READDIR starts after the last of them.
func translate(dents []byte, size int) []byte {
	out := []byte{}
	for len(dents) >= linuxDirentHeader {
		le := binary.LittleEndian
		length := int(le.Uint16(dents[16:]))
		if length < linuxDirentHeader || length > len(dents) {
			break
		}
		name := unix.ByteSliceToString(dents[linuxDirentHeader:length])
		padded := (direntHeader + len(name) + 7) &^ 7
		if len(out)+padded > size {
			break
		}
		e := dirent{Ino: le.Uint64(dents), Off: le.Uint64(dents[8:]), Namelen: uint32(len(name)), Typ: uint32(dents[18])}
		out = append(append(out, encode(e)...), name...)
		out = append(out, make([]byte, padded-direntHeader-len(name))...)
		dents = dents[length:]
	}
	return out
}

func (s *server) fsync(r *request) error {
	in, h, err := using(s, r, func(in fsyncIn) uint64 { return in.Handle })
	if err != nil {
		return err
	}
	return h.descriptor(func(fd int) error {
		if in.Flags&fsyncDataOnly != 0 {
			return unix.Fdatasync(fd)
		}
		return unix.Fsync(fd)
	})
}

func (s *server) fallocate(r *request) error {
	in, h, err := using(s, r, func(in fallocateIn) uint64 { return in.Handle })
	if err != nil {
		return err
	}
	return h.descriptor(func(fd int) error {
		return unix.Fallocate(fd, in.Mode, int64(in.Offset), int64(in.Length))
	})
}

func (s *server) lseek(r *request) (any, error) {
	in, h, err := using(s, r, func(in lseekIn) uint64 { return in.Handle })
	if err != nil {
		return nil, err
	}
	var at int64
	err = h.descriptor(func(fd int) (err error) {
		at, err = unix.Seek(fd, int64(in.Offset), int(in.Whence))
		return err
	})
	return lseekOut{Offset: uint64(at)}, err
}

func (s *server) release(r *request) error {
	in, h, err := using(s, r, func(in releaseIn) uint64 { return in.Handle })
	if err != nil {
		return err
	}
	s.names.Lock() // a path may go through the handle's descriptor
	defer s.names.Unlock()
	s.mu.Lock()
	delete(s.handles, in.Handle)
	s.mu.Unlock()
	s.tree.released(h.node, h)
	return h.file.Close()
}
