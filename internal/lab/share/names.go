package share

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// server is the state of one client.
type server struct {
	// names is held for reading while a path is used, and for writing while
	// the file at a path is changed.
	names sync.RWMutex
	tree  *tree

	mu      sync.Mutex
	handles map[uint64]*handle
	last    uint64
}

func newServer(dirs []string) *server {
	return &server{tree: newTree(dirs), handles: map[uint64]*handle{}}
}

// at takes a name from the request's arguments, and returns its path in the
// request's directory. The caller holds s.names until it has used the path.
func (s *server) at(r *request) (path, name string, err error) {
	if name, err = r.name(); err != nil {
		return "", "", err
	}
	if r.Node == rootID {
		return "", name, unix.EACCES
	}
	dir, err := s.tree.path(r.Node)
	return dir + "/" + name, name, err
}

// entry is the answer to requests that make or look up a name.
func (s *server) entry(parent uint64, name, path string) (e entryOut, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return e, err
	}
	e.Attr = attrOf(&st)
	e.Node, err = s.tree.found(parent, name, identity{st.Dev, st.Ino})
	return e, err
}

func attrOf(st *unix.Stat_t) attr {
	return attr{
		Ino: st.Ino, Size: uint64(st.Size), Blocks: uint64(st.Blocks),
		Atime: uint64(st.Atim.Sec), Mtime: uint64(st.Mtim.Sec), Ctime: uint64(st.Ctim.Sec),
		AtimeNsec: uint32(st.Atim.Nsec), MtimeNsec: uint32(st.Mtim.Nsec), CtimeNsec: uint32(st.Ctim.Nsec),
		Mode: st.Mode, Nlink: uint32(st.Nlink), UID: st.Uid, GID: st.Gid,
		// As the kernel's new_encode_dev: 12 bits of major, 20 of minor.
		Rdev:    unix.Minor(st.Rdev)&0xff | unix.Major(st.Rdev)<<8 | unix.Minor(st.Rdev)&^0xff<<12,
		Blksize: uint32(st.Blksize),
	}
}

func (s *server) lookup(r *request) (any, error) {
	if r.Node == rootID {
		return s.lookupShare(r)
	}
	s.names.RLock()
	defer s.names.RUnlock()
	path, name, err := s.at(r)
	if err != nil {
		return nil, err
	}
	return s.entry(r.Node, name, path)
}

// lookupShare looks up one of the served directories.
func (s *server) lookupShare(r *request) (any, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	s.tree.mu.Lock()
	n := s.tree.child(rootID, name)
	s.tree.mu.Unlock()
	if n == nil {
		return nil, unix.ENOENT
	}
	return s.entry(rootID, name, n.name)
}

func (s *server) getattr(r *request) (any, error) {
	in, err := take[getattrIn](r)
	if err != nil {
		return nil, err
	}
	if r.Node == rootID {
		return attrOut{Attr: attr{Ino: rootID, Mode: unix.S_IFDIR | 0o555, Nlink: 2}}, nil
	}
	var h *handle
	if in.Flags&getattrHandle != 0 {
		h = s.handle(in.Handle)
	}
	s.names.RLock()
	defer s.names.RUnlock()
	return s.attributes(r.Node, h)
}

// attributes returns the attributes of a node's file.
func (s *server) attributes(node uint64, h *handle) (any, error) {
	path, h, err := s.reach(node, h)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if h != nil {
		err = unix.Fstat(int(h.file.Fd()), &st)
	} else {
		err = unix.Lstat(path, &st)
	}
	return attrOut{Attr: attrOf(&st)}, err
}

// reach returns a path to a node's file: through the handle h if there is one, else
// the file's own path, and if it has lost its name, through any handle of the node.
// The path is good as long as s.names is held.
func (s *server) reach(node uint64, h *handle) (path string, by *handle, err error) {
	if h == nil {
		if path, err = s.tree.path(node); err == nil {
			return path, nil, nil
		}
		if h = s.tree.anyOpen(node); h == nil {
			return "", nil, err
		}
	}
	return fmt.Sprintf("/proc/self/fd/%d", h.file.Fd()), h, nil
}

func (s *server) setattr(r *request) (any, error) {
	in, err := take[setattrIn](r)
	if err != nil {
		return nil, err
	}
	var h *handle
	if in.Valid&setHandle != 0 {
		h = s.handle(in.Handle)
	}
	s.names.RLock()
	defer s.names.RUnlock()
	path, h, err := s.reach(r.Node, h)
	if err != nil {
		return nil, err
	}
	nofollow := unix.AT_SYMLINK_NOFOLLOW
	if h != nil {
		nofollow = 0 // path is a link in /proc
	}
	if in.Valid&setMode != 0 {
		if err := unix.Chmod(path, in.Mode&0o7777); err != nil {
			return nil, err
		}
	}
	if in.Valid&(setUID|setGID) != 0 {
		uid, gid := -1, -1
		if in.Valid&setUID != 0 {
			uid = int(in.UID)
		}
		if in.Valid&setGID != 0 {
			gid = int(in.GID)
		}
		if err := unix.Fchownat(unix.AT_FDCWD, path, uid, gid, nofollow); err != nil {
			return nil, err
		}
	}
	if in.Valid&setSize != 0 {
		if err := truncate(path, h, int64(in.Size)); err != nil {
			return nil, err
		}
	}
	if in.Valid&(setAtime|setMtime) != 0 {
		times := []unix.Timespec{
			timeOf(in.Valid&setAtime != 0, in.Valid&setAtimeNow != 0, in.Atime, in.AtimeNsec),
			timeOf(in.Valid&setMtime != 0, in.Valid&setMtimeNow != 0, in.Mtime, in.MtimeNsec),
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, times, nofollow); err != nil {
			return nil, err
		}
	}
	return s.attributes(r.Node, h)
}

// truncate uses the handle if there is one: the path may not allow to write to the
// file.
func truncate(path string, h *handle, size int64) error {
	if h != nil && h.file.Truncate(size) == nil {
		return nil
	}
	return unix.Truncate(path, size)
}

func timeOf(set, now bool, sec uint64, nsec uint32) unix.Timespec {
	switch {
	case !set:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case now:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}

func (s *server) readlink(r *request) (any, error) {
	s.names.RLock()
	defer s.names.RUnlock()
	path, err := s.tree.path(r.Node)
	if err != nil {
		return nil, err
	}
	target, err := os.Readlink(path)
	return []byte(target), err
}

// make makes a directory, a special file, a link or a symbolic link.
func (s *server) make(r *request) (any, error) {
	s.names.RLock()
	defer s.names.RUnlock()
	var do func(path string) error
	switch r.Opcode {
	case opMkdir:
		in, err := take[mkdirIn](r)
		if err != nil {
			return nil, err
		}
		do = func(path string) error { return unix.Mkdir(path, in.Mode) }
	case opMknod:
		in, err := take[mknodIn](r)
		if err != nil {
			return nil, err
		}
		dev := unix.Mkdev(in.Rdev>>8&0xfff, in.Rdev&0xff|in.Rdev>>12&0xfff00)
		do = func(path string) error { return unix.Mknod(path, in.Mode, int(dev)) }
	case opLink:
		in, err := take[linkIn](r)
		if err != nil {
			return nil, err
		}
		old, err := s.tree.path(in.Node)
		if err != nil {
			return nil, err
		}
		do = func(path string) error { return unix.Link(old, path) }
	}
	path, name, err := s.at(r)
	if err != nil {
		return nil, err
	}
	if r.Opcode == opSymlink {
		target, err := r.text()
		if err != nil {
			return nil, err
		}
		do = func(path string) error { return unix.Symlink(target, path) }
	}
	if err := do(path); err != nil {
		return nil, err
	}
	if r.Opcode != opLink {
		r.own(path)
	}
	return s.entry(r.Node, name, path)
}

// own gives a new file to the user who asked for it, if this process is root.
func (r *request) own(path string) {
	if os.Geteuid() == 0 {
		unix.Lchown(path, int(r.UID), int(r.GID))
	}
}

func (s *server) remove(r *request) error {
	s.names.Lock()
	defer s.names.Unlock()
	path, name, err := s.at(r)
	if err != nil {
		return err
	}
	if r.Opcode == opRmdir {
		err = unix.Rmdir(path)
	} else {
		err = unix.Unlink(path)
	}
	if err == nil {
		s.tree.removed(r.Node, name)
	}
	return err
}

func (s *server) rename(r *request) error {
	var in rename2In
	var err error
	if r.Opcode == opRename2 {
		in, err = take[rename2In](r)
	} else {
		var old renameIn
		old, err = take[renameIn](r)
		in.Dir = old.Dir
	}
	if err != nil {
		return err
	}
	s.names.Lock()
	defer s.names.Unlock()
	from, name, err := s.at(r)
	if err != nil {
		return err
	}
	to, other, err := s.at(&request{inHeader: inHeader{Node: in.Dir}, body: r.body})
	if err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, uint(in.Flags)); err != nil {
		return err
	}
	s.tree.renamed(r.Node, name, in.Dir, other, in.Flags&unix.RENAME_EXCHANGE != 0)
	return nil
}

func (s *server) statfs(r *request) (any, error) {
	s.names.RLock()
	defer s.names.RUnlock()
	path, _, err := s.reach(r.Node, nil)
	if err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, err
	}
	return statfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Namelen: uint32(st.Namelen), Frsize: uint32(st.Frsize),
	}, nil
}
