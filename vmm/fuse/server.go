// Package fuse serves directories of this host to a client that speaks FUSE
// (include/uapi/linux/fuse.h; Documentation/filesystems/fuse): the kernel of a guest,
// or of a lab machine. The client isn't trusted.
//
// The client names files by node numbers, and by single names in them. The server
// keeps a path for each node, and no descriptor. It opens the path for each request
// anew, with openat2(2) from the served directory on: beneath it, and without
// following a link. So neither the client's names nor links and renames by others
// lead out of the directory. Then it checks that it has the file that the client
// means. Only regular files and directories are opened. Links, sockets, FIFOs and
// devices are opened with O_PATH, which never waits and calls no driver.
//
// The server acts with the rights of its own process, whichever process of the client
// asks. If that is root, a new file belongs to the user who asked for it.
//
// The answer to requests that the server doesn't know, such as those for extended
// attributes, is ENOSYS: the client then takes them for unsupported.
package fuse

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxWrite is the most data in one request or reply, in bytes.
	maxWrite = 1 << 20
	// maxBody is the most of a request that is copied, in bytes: all but the
	// data of a WRITE.
	maxBody = 64 << 10
)

// Options say what a client may do.
type Options struct {
	// Writable lets the client change files. Otherwise, each such request fails
	// with EROFS.
	Writable bool
	// Privileged lets the client make device nodes and set-id files, and see the
	// numbers of device nodes. Otherwise, device nodes have the number 0, with
	// which nobody can open them. It may also open the files of /proc and the
	// like, where a read may wait for ever.
	Privileged bool
	// Validity is how long the client may use names and attributes that it has
	// seen before, without asking again. The host may change them at any time.
	Validity time.Duration
}

// Validity is the validity of virtiofsd, in Options.
const Validity = time.Second

// Server is the state of one client. It is safe for concurrent use.
type Server struct {
	options Options
	tree    *tree
	handles handles

	// names is held for writing while a request renames, and for reading while
	// another opens a path.
	names sync.RWMutex
}

// New returns a server whose root is a directory.
func New(dir string, o Options) (*Server, error) {
	fd, err := openRoot(dir)
	if err != nil {
		return nil, err
	}
	return newServer(&node{id: rootID, root: fd}, o), nil
}

// NewSet returns a server whose root has a directory for each of dirs. Its name is
// its index in dirs. A directory that can't be opened is left out.
func NewSet(dirs []string, o Options) *Server {
	root := &node{id: rootID, root: noRoot, shown: map[string]*node{}}
	for i, dir := range dirs {
		if fd, err := openRoot(dir); err == nil {
			root.shown[strconv.Itoa(i)] = &node{id: rootID + 1 + uint64(i), root: fd}
		}
	}
	return newServer(root, o)
}

func newServer(root *node, o Options) *Server {
	return &Server{options: o, tree: newTree(root)}
}

// openRoot opens a directory that is to be served. Links on the way to it are the
// user's, and are followed.
func openRoot(dir string) (int, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", dir, err)
	}
	return fd, nil
}

// Close closes all files. No request may be in progress.
func (s *Server) Close() error {
	s.reset()
	return s.tree.close()
}

// reset forgets all that the client has looked up and opened.
func (s *Server) reset() {
	s.tree.reset()
	s.handles.reset()
}

// Reply is what the client gets.
type Reply struct {
	// Head is to be written to the start of the room for the reply. If it is
	// empty, the client gets no reply.
	Head []byte
	// Data counts the bytes after Head. Message.Preadv has put them there.
	Data int
	// Kind is the request's index in Kinds.
	Kind int
}

// Answer carries out a request. An error says that the client breaks the protocol so
// that it can't be answered: there is no header, or no room for one.
func (s *Server) Answer(m Message) (reply Reply, err error) {
	r, err := s.Take(m)
	if err != nil {
		return reply, err
	}
	return s.Do(*r)
}

// Do is Answer for a request that Take has copied.
func (s *Server) Do(r Request) (reply Reply, err error) {
	m := r.message
	reply.Kind = kindOf(r.Opcode)
	body, err := s.carryOut(&r)
	if errors.Is(err, errSilent) {
		return reply, nil
	}
	if n, ok := body.(moved); ok && err == nil {
		reply.Data, body = int(n), nil
	}
	reply.Head = encodeReply(r.Unique, body, reply.Data, err)
	if uint64(len(reply.Head)+reply.Data) > m.Room() {
		reply.Head, reply.Data = encodeReply(r.Unique, nil, 0, unix.EINVAL), 0
	}
	if room := m.Room(); room < headerOut {
		return reply, fmt.Errorf("FUSE request with %d bytes for its reply", room)
	}
	return reply, nil
}

// Kinds are the kinds of requests, for reports.
var Kinds = []string{"read", "write", "lookup", "getattr", "open", "readdir", "change", "forget", "other"}

func kindOf(op uint32) int {
	kind := "other"
	switch op {
	case opRead:
		kind = "read"
	case opWrite:
		kind = "write"
	case opLookup:
		kind = "lookup"
	case opGetattr:
		kind = "getattr"
	case opOpen, opOpendir, opCreate:
		kind = "open"
	case opReaddir, opReaddirplus:
		kind = "readdir"
	case opForget, opBatchForget:
		kind = "forget"
	default:
		if changes[op] {
			kind = "change"
		}
	}
	return slices.Index(Kinds, kind)
}

// errSilent says that a request gets no reply.
var errSilent = errors.New("no reply")

// moved is the answer of which only the header is left to write. It counts bytes.
type moved int

// changes has the requests that change files.
var changes = map[uint32]bool{
	opSetattr: true, opSymlink: true, opMknod: true, opMkdir: true, opUnlink: true, opRmdir: true,
	opRename: true, opRename2: true, opLink: true, opCreate: true, opWrite: true, opFallocate: true,
}

func (s *Server) carryOut(r *Request) (any, error) {
	if changes[r.Opcode] && !s.options.Writable {
		return nil, unix.EROFS
	}
	switch r.Opcode {
	case opInit:
		return s.init(r)
	case opDestroy:
		s.reset()
		return nil, nil
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
	case opSymlink:
		return s.symlink(r)
	case opMknod:
		return s.mknod(r)
	case opMkdir:
		return s.mkdir(r)
	case opLink:
		return s.link(r)
	case opUnlink:
		return nil, s.remove(r, 0)
	case opRmdir:
		return nil, s.remove(r, unix.AT_REMOVEDIR)
	case opRename:
		in, err := take[renameIn](r)
		if err != nil {
			return nil, err
		}
		return nil, s.rename(r, rename2In{Dir: in.Dir})
	case opRename2:
		in, err := take[rename2In](r)
		if err != nil {
			return nil, err
		}
		return nil, s.rename(r, in)
	case opStatfs:
		return s.statfs(r)
	case opOpen, opOpendir:
		return s.open(r)
	case opCreate:
		return s.create(r)
	case opRead:
		return s.read(r)
	case opReaddir, opReaddirplus:
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
	}
	return nil, unix.ENOSYS
}

// init begins a session. A client that begins another one, after it was reset, has
// forgotten the one before.
func (s *Server) init(r *Request) (any, error) {
	in, err := take[initIn](r)
	if err != nil {
		return nil, err
	}
	if in.Major != major {
		return nil, unix.EPROTO
	}
	s.reset()
	offered := uint32(initAsyncRead | initBigWrites | initAutoInval | initParallelDirs | initMaxPages)
	if s.options.Validity > 0 {
		offered |= initReaddirplus | initReaddirplusAuto | initCacheSymlinks
	}
	return initOut{
		Major: major, Minor: minor, MaxReadahead: in.MaxReadahead, Flags: in.Flags & offered,
		MaxBackground: 64, CongestionThreshold: 48, MaxWrite: maxWrite, TimeGran: 1, MaxPages: maxWrite / 4096,
	}, nil
}

// errnoOf returns the number that tells the client of an error.
func errnoOf(err error) syscall.Errno {
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno > 0 && errno < 512 {
		return errno
	}
	return unix.EIO
}
