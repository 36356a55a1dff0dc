package fuse

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Message is a request where its transport has it, with the room for its reply. Data
// of files isn't copied to memory of the server: it moves between the message and the
// file.
type Message interface {
	// Size is the size of the request in bytes.
	Size() uint64
	// CopyOut copies len(p) bytes of the request, from offset off on, to p. The
	// server asks for no byte twice.
	CopyOut(p []byte, off uint64) error
	// Room is the most bytes that the reply can have.
	Room() uint64
	// Preadv reads up to n bytes from a file at offset off, to where they belong
	// in the reply: after a header of 16 bytes. It returns how many it read.
	Preadv(fd int, off int64, n int) (int, error)
	// Pwritev writes n bytes of the request, which begin at offset from in it, to
	// a file at offset off, with flags (RWF_*). It returns how many it wrote.
	Pwritev(fd int, off int64, from uint64, n int, flags int) (int, error)
}

// Request is a request, with the arguments that haven't been taken yet.
type Request struct {
	inHeader
	body    []byte
	message Message
}

// writeHeader is where the data of a WRITE begins: after struct fuse_in_header and
// struct fuse_write_in.
const writeHeader = headerIn + 40

// Data reports whether the request moves data of a file.
func (r *Request) Data() bool { return r.Opcode == opRead || r.Opcode == opWrite }

// Take copies a request, without the data of a WRITE. An error says that there is none.
func (s *Server) Take(m Message) (*Request, error) {
	size := m.Size()
	if size < headerIn {
		return nil, fmt.Errorf("FUSE request of %d bytes", size)
	}
	r := &Request{body: make([]byte, min(size, writeHeader)), message: m}
	if err := m.CopyOut(r.body, 0); err != nil {
		return nil, err
	}
	var err error
	if r.inHeader, err = take[inHeader](r); err != nil {
		return nil, err
	}
	if size > writeHeader && r.Opcode != opWrite {
		rest := make([]byte, min(size, maxBody)-writeHeader)
		if err := m.CopyOut(rest, writeHeader); err != nil {
			return nil, err
		}
		r.body = append(r.body, rest...)
	}
	return r, nil
}

// take takes a structure off the front of the arguments.
func take[T any](r *Request) (v T, err error) {
	n, err := binary.Decode(r.body, binary.LittleEndian, &v)
	if err != nil {
		return v, unix.EINVAL
	}
	r.body = r.body[n:]
	return v, nil
}

// text takes a string that ends with a zero byte.
func (r *Request) text() (string, error) {
	s, rest, ok := strings.Cut(string(r.body), "\x00")
	if !ok {
		return "", unix.EINVAL
	}
	r.body = r.body[len(r.body)-len(rest):]
	return s, nil
}

// name takes the name of a directory's entry, and refuses one that would lead out of
// the directory.
func (r *Request) name() (string, error) {
	s, err := r.text()
	switch {
	case err != nil:
		return "", err
	case s == "", s == ".", s == "..", strings.Contains(s, "/"):
		return "", unix.EINVAL
	case len(s) > unix.NAME_MAX:
		return "", unix.ENAMETOOLONG
	}
	return s, nil
}

// encodeReply encodes a reply: a structure, bytes or nil, or an error. data counts
// the bytes after it.
func encodeReply(unique uint64, body any, data int, err error) []byte {
	h := outHeader{Len: headerOut, Unique: unique}
	var p []byte
	switch {
	case err != nil:
		h.Error = -int32(errnoOf(err))
	case body != nil:
		p = encode(body)
	}
	h.Len += uint32(len(p) + data)
	return append(encode(h), p...)
}

func encode(v any) []byte {
	if b, ok := v.([]byte); ok {
		return b
	}
	b, err := binary.Append(nil, binary.LittleEndian, v)
	if err != nil {
		panic(err) // the structure has no fixed size
	}
	return b
}
