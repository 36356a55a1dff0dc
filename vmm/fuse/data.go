package fuse

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"
)

// maxListing is the most of a directory in one reply, in bytes.
const maxListing = 128 << 10

func (s *Server) read(r *Request) (any, error) {
	var n int
	err := using(s, r, transferHandle, func(fd int, in transferIn) (err error) {
		if int64(in.Offset) < 0 || headerOut+uint64(in.Size) > r.message.Room() {
			return unix.EINVAL
		}
		n, err = r.message.Preadv(fd, int64(in.Offset), int(min(in.Size, maxWrite)))
		return err
	})
	return moved(n), err
}

func (s *Server) write(r *Request) (any, error) {
	var n int
	err := using(s, r, transferHandle, func(fd int, in transferIn) (err error) {
		if int64(in.Offset) < 0 || in.Size > maxWrite || writeHeader+uint64(in.Size) > r.message.Size() {
			return unix.EINVAL
		}
		flags := 0
		if in.OpenFlags&unix.O_APPEND != 0 && in.Flags&writeCache == 0 {
			flags = unix.RWF_APPEND // the client may not know yet where the file ends
		}
		n, err = r.message.Pwritev(fd, int64(in.Offset), writeHeader, int(in.Size), flags)
		if n > 0 {
			err = nil // the count says that the write was short
		}
		return err
	})
	return writeOut{Size: uint32(n)}, err
}

func transferHandle(in transferIn) uint64 { return in.Handle }

// readdir returns entries from an offset on. Offsets are those of the directory on
// this host.
func (s *Server) readdir(r *Request) (any, error) {
	in, err := take[transferIn](r)
	if err != nil {
		return nil, err
	}
	h := s.handles.get(in.Handle)
	if h == nil {
		return nil, unix.EBADF
	}
	if r.message.Room() < headerOut {
		return nil, unix.EINVAL
	}
	size := int(min(uint64(in.Size), maxListing, r.message.Room()-headerOut))
	buf := make([]byte, size)
	h.mu.Lock() // for the position
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil, unix.EBADF
	}
	if _, err := unix.Seek(h.fd, int64(in.Offset), io.SeekStart); err != nil {
		return nil, err
	}
	n, err := unix.Getdents(h.fd, buf)
	if err != nil {
		return nil, err
	}
	list := listing{size: size}
	if r.Opcode == opReaddirplus {
		list.entry = func(name string) (e entryOut) {
			var st unix.Statx_t
			if name != "." && name != ".." && stat(h.fd, name, &st) == nil {
				e, _ = s.entry(h.node, name, &st) // without a node, the client looks it up
			}
			return e
		}
	}
	return list.translate(buf[:n]), nil
}

// listing is a reply to READDIR or READDIRPLUS.
type listing struct {
	size  int                        // the most bytes
	entry func(name string) entryOut // for READDIRPLUS: what a LOOKUP returns, or no node
}

// unknownIno is for "..", which may be above the served directory.
const unknownIno = 0xffffffff

// translate turns entries of getdents64(2) into FUSE's, as many as fit. The next
// request starts after the last of them.
func (l listing) translate(dents []byte) []byte {
	out := []byte{}
	for len(dents) >= linuxDirentHeader {
		le := binary.LittleEndian
		length := int(le.Uint16(dents[16:]))
		if length < linuxDirentHeader || length > len(dents) {
			break
		}
		name := unix.ByteSliceToString(dents[linuxDirentHeader:length])
		size := (direntHeader + len(name) + 7) &^ 7
		if l.entry != nil {
			size += entryOutSize
		}
		if len(out)+size > l.size {
			break
		}
		if l.entry != nil {
			out = append(out, encode(l.entry(name))...)
		}
		e := dirent{Ino: le.Uint64(dents), Off: le.Uint64(dents[8:]), Namelen: uint32(len(name)), Typ: uint32(dents[18])}
		if name == ".." {
			e.Ino = unknownIno
		}
		out = append(append(out, encode(e)...), name...)
		out = append(out, make([]byte, -len(out)&7)...)
		dents = dents[length:]
	}
	return out
}
