// Package share serves directories of this host to a lab machine, over a stream of
// FUSE messages (include/uapi/linux/fuse.h; Documentation/filesystems/fuse.rst). The
// client is the machine's kernel. The server uses the rights of this process,
// whichever process in the machine asks.
//
// Neither side caches anything, so each sees at once what the other changes. The
// answer to requests that the server doesn't know, such as those for extended
// attributes, is ENOSYS: the kernel then takes them for unsupported.
package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxWrite is the most data in one request or reply, in bytes.
const maxWrite = 1 << 20

// Serve answers requests from conn until conn is closed. The root has a directory
// for each of dirs, whose name is its index in dirs.
func Serve(conn io.ReadWriter, dirs []string) error {
	s := newServer(dirs)
	defer s.close()
	var (
		writing sync.Mutex
		busy    sync.WaitGroup
	)
	defer busy.Wait()
	for {
		r, err := readRequest(conn)
		if err != nil {
			return err
		}
		busy.Go(func() {
			body, err := s.answer(r)
			if errors.Is(err, errSilent) {
				return
			}
			msg := reply(r.Unique, body, err)
			writing.Lock()
			defer writing.Unlock()
			conn.Write(msg)
		})
	}
}

// request is a request, with the arguments that haven't been taken yet.
type request struct {
	inHeader
	body []byte
}

func readRequest(r io.Reader) (*request, error) {
	var head [headerIn]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	req := &request{body: head[:]}
	h, err := take[inHeader](req)
	if err != nil {
		return nil, err
	}
	if h.Len < headerIn || h.Len > maxWrite+4096 {
		return nil, fmt.Errorf("FUSE request of %d bytes", h.Len)
	}
	req.inHeader, req.body = h, make([]byte, h.Len-headerIn)
	_, err = io.ReadFull(r, req.body)
	return req, err
}

// take takes a structure off the front of the arguments.
func take[T any](r *request) (v T, err error) {
	n, err := binary.Decode(r.body, binary.LittleEndian, &v)
	if err != nil {
		return v, unix.EINVAL
	}
	r.body = r.body[n:]
	return v, nil
}

// text takes a string that ends with a zero byte.
func (r *request) text() (string, error) {
	s, rest, ok := strings.Cut(string(r.body), "\x00")
	if !ok {
		return "", unix.EINVAL
	}
	r.body = r.body[len(r.body)-len(rest):]
	return s, nil
}

// name takes the name of a directory's entry, and refuses one that would lead out of
// the directory.
func (r *request) name() (string, error) {
	s, err := r.text()
	if err == nil && (s == "" || s == "." || s == ".." || strings.Contains(s, "/")) {
		err = unix.EINVAL
	}
	return s, err
}

// errSilent says that a request gets no answer.
var errSilent = errors.New("no answer")

// reply encodes an answer: a structure, bytes or nil, or an error.
func reply(unique uint64, body any, err error) []byte {
	h := outHeader{Len: headerOut, Unique: unique}
	var data []byte
	switch {
	case err != nil:
		errno, ok := errors.AsType[syscall.Errno](err)
		if !ok {
			errno = unix.EIO
		}
		h.Error = -int32(errno)
	case body != nil:
		data = encode(body)
	}
	h.Len += uint32(len(data))
	return append(encode(h), data...)
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

// answer carries out a request and returns its answer.
func (s *server) answer(r *request) (any, error) {
	switch r.Opcode {
	case opInit:
		in, err := take[initIn](r)
		if err == nil && in.Major != major {
			err = unix.EPROTO
		}
		return initOut{
			Major: major, Minor: minor, MaxReadahead: in.MaxReadahead, Flags: in.Flags & initOffered,
			MaxBackground: 64, CongestionThreshold: 48, MaxWrite: maxWrite, TimeGran: 1, MaxPages: maxWrite / 4096,
		}, err
	case opForget:
		in, err := take[forgetIn](r)
		if err == nil {
			s.tree.forget(r.Node, in.Lookups)
		}
		return nil, errSilent
	case opBatchForget:
		in, _ := take[batchIn](r) // a request that is too short has a Count of 0
		for range in.Count {
			item, err := take[batchItem](r)
			if err != nil {
				break
			}
			s.tree.forget(item.Node, item.Lookups)
		}
		return nil, errSilent
	case opInterrupt:
		return nil, errSilent // nothing here waits
	case opLookup:
		return s.lookup(r)
	case opGetattr:
		return s.getattr(r)
	case opSetattr:
		return s.setattr(r)
	case opReadlink:
		return s.readlink(r)
	case opSymlink, opMknod, opMkdir, opLink:
		return s.make(r)
	case opUnlink, opRmdir:
		return nil, s.remove(r)
	case opRename, opRename2:
		return nil, s.rename(r)
	case opStatfs:
		return s.statfs(r)
	case opOpen, opOpendir:
		return s.open(r)
	case opCreate:
		return s.create(r)
	case opRead:
		return s.read(r)
	case opReaddir:
		return s.readdir(r)
	case opWrite:
		return s.write(r)
	case opFsync, opFsyncdir:
		return nil, s.fsync(r)
	case opFallocate:
		return nil, s.fallocate(r)
	case opLseek:
		return s.lseek(r)
	case opRelease, opReleasedir:
		return nil, s.release(r)
	case opDestroy:
		return nil, nil
	}
	return nil, unix.ENOSYS
}
