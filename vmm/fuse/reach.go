package fuse

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// file is an open descriptor of a node's file, and what statx(2) says about it. The
// descriptor may have been opened with O_PATH.
type file struct {
	fd int
	unix.Statx_t
}

func (f *file) close() { unix.Close(f.fd) }

func (f *file) is(format uint16) bool { return f.Mode&unix.S_IFMT == format }

// link is a path that stands for the descriptor's file, whatever its name is by now.
// The kernel follows it to the file itself, even if that is a symbolic link.
func (f *file) link() string { return fmt.Sprintf("/proc/self/fd/%d", f.fd) }

// stat asks for the attributes of a directory's entry, or with no name for those of
// the descriptor's file.
func stat(fd int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.Statx(fd, name, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, st)
}

// identityOf returns which file it is. A file system that doesn't know when a file
// was made says 0.
func identityOf(st *unix.Statx_t) identity {
	return identity{
		dev: uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), ino: st.Ino,
		born: st.Btime.Sec, bornNS: int64(st.Btime.Nsec),
	}
}

// newFile takes a descriptor over.
func newFile(fd int) (*file, error) {
	f := &file{fd: fd}
	if err := stat(fd, "", &f.Statx_t); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// entryAt opens a directory's entry with O_PATH, which works for any type of file and
// does nothing to it.
func entryAt(dir int, name string) (*file, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return newFile(fd)
}

// reach opens a node's file with O_PATH. A file that has lost its name is reached
// through a handle of it.
func (s *Server) reach(id uint64) (*file, error) {
	f, err := s.reachByPath(id)
	if err == nil {
		return f, nil
	}
	if h := s.tree.anyOpen(id); h != nil {
		return h.dup()
	}
	return nil, err
}

func (s *Server) reachByPath(id uint64) (*file, error) {
	s.names.RLock()
	defer s.names.RUnlock()
	root, path, n, err := s.tree.path(id)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	f, err := newFile(fd)
	if err != nil {
		return nil, err
	}
	// Without the time of birth: overlayfs changes it when a file is first written.
	if got := identityOf(&f.Statx_t); n.root == noRoot && (got.dev != n.file.dev || got.ino != n.file.ino) {
		f.close()
		return nil, unix.ESTALE
	}
	return f, nil
}

// reachOr is reach, by a handle if the client names one.
func (s *Server) reachOr(id, handle uint64, named bool) (*file, error) {
	if h := s.handles.get(handle); named && h != nil {
		return h.dup()
	}
	return s.reach(id)
}

// kernelFiles are file systems whose files are interfaces of the kernel. Reading one
// may wait for ever, as in /proc/kmsg.
var kernelFiles = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true,
}

// openFlags are those that a client may open a file with. O_APPEND isn't one, because
// each WRITE says it, and nor is O_DIRECT, for which memory must be aligned and
// visible to devices.
const openFlags = unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC

// open opens a file, which must be a regular file or a directory, for what the client
// wants.
func (s *Server) openFile(f *file, theirs uint32) (fd int, err error) {
	flags := int(theirs)&openFlags | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	changes := flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0
	if changes && !s.options.Writable {
		return -1, unix.EROFS
	}
	switch f.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		flags |= unix.O_DIRECTORY
	case unix.S_IFREG:
	default:
		return -1, unix.ENXIO
	}
	if !s.options.Privileged && f.is(unix.S_IFREG) {
		var st unix.Statfs_t
		if err := unix.Fstatfs(f.fd, &st); err != nil {
			return -1, err
		}
		if kernelFiles[st.Type] {
			return -1, unix.EACCES
		}
	}
	if changes {
		if err := s.stripSetID(f); err != nil {
			return -1, err
		}
	}
	return unix.Open(f.link(), flags, 0)
}

// stripSetID takes the set-id bits of a file away before its content changes. The
// kernel does so too, but not for root.
func (s *Server) stripSetID(f *file) error {
	if s.options.Privileged || !f.is(unix.S_IFREG) || f.Mode&setID == 0 {
		return nil
	}
	return unix.Chmod(f.link(), uint32(f.Mode)&0o7777&^setID)
}

const setID = unix.S_ISUID | unix.S_ISGID
