package fuse

import (
	"os"

	"golang.org/x/sys/unix"
)

func (s *Server) lookup(r *Request) (any, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	if r.Node == rootID && s.tree.root.shown != nil {
		return s.lookupShown(name)
	}
	dir, err := s.reach(r.Node)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	var st unix.Statx_t
	if err := stat(dir.fd, name, &st); err != nil {
		return nil, err
	}
	return s.entry(r.Node, name, &st)
}

// lookupShown looks up one of the served directories.
func (s *Server) lookupShown(name string) (any, error) {
	n := s.tree.root.shown[name]
	if n == nil {
		return nil, unix.ENOENT
	}
	var st unix.Statx_t
	if err := stat(n.root, "", &st); err != nil {
		return nil, err
	}
	return entryOut{Node: n.id, Attr: s.attrOf(&st)}, nil
}

func (s *Server) readlink(r *Request) (any, error) {
	f, err := s.reach(r.Node)
	if err != nil {
		return nil, err
	}
	defer f.close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(f.fd, "", buf)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

func (s *Server) mkdir(r *Request) (any, error) {
	in, err := take[mkdirIn](r)
	if err != nil {
		return nil, err
	}
	return s.make(r, true, func(dir int, name string) error {
		return unix.Mkdirat(dir, name, s.modeOf(in.Mode, true))
	})
}

func (s *Server) mknod(r *Request) (any, error) {
	in, err := take[mknodIn](r)
	if err != nil {
		return nil, err
	}
	format, rdev := in.Mode&unix.S_IFMT, uint64(0)
	switch format {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
		if !s.options.Privileged {
			return nil, unix.EPERM
		}
		rdev = unix.Mkdev(in.Rdev>>8&0xfff, in.Rdev&0xff|in.Rdev>>12&0xfff00)
	default:
		return nil, unix.EINVAL
	}
	return s.make(r, true, func(dir int, name string) error {
		return unix.Mknodat(dir, name, format|s.modeOf(in.Mode, false), int(rdev))
	})
}

func (s *Server) symlink(r *Request) (any, error) {
	// The name comes before the target.
	args := *r
	if _, err := args.text(); err != nil {
		return nil, err
	}
	target, err := args.text()
	if err != nil {
		return nil, err
	}
	return s.make(r, true, func(dir int, name string) error { return unix.Symlinkat(target, dir, name) })
}

func (s *Server) link(r *Request) (any, error) {
	in, err := take[linkIn](r)
	if err != nil {
		return nil, err
	}
	old, err := s.reach(in.Node)
	if err != nil {
		return nil, err
	}
	defer old.close()
	return s.make(r, false, func(dir int, name string) error {
		return unix.Linkat(unix.AT_FDCWD, old.link(), dir, name, unix.AT_SYMLINK_FOLLOW)
	})
}

// named takes a name from the request's arguments, and opens the directory that it is
// in.
func (s *Server) named(r *Request) (dir *file, name string, err error) {
	if name, err = r.name(); err != nil {
		return nil, "", err
	}
	dir, err = s.reach(r.Node)
	return dir, name, err
}

// make makes an entry in the request's directory by calling do. A file that is new
// belongs to the user who asked for it.
func (s *Server) make(r *Request, isNew bool, do func(dir int, name string) error) (any, error) {
	dir, name, err := s.named(r)
	if err != nil {
		return nil, err
	}
	defer dir.close()
	if err := do(dir.fd, name); err != nil {
		return nil, err
	}
	f, err := entryAt(dir.fd, name)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if isNew {
		if err := r.own(dir, f); err != nil {
			return nil, err
		}
	}
	return s.entry(r.Node, name, &f.Statx_t)
}

// own gives a new file to the user who asked for it, if this process is root. A
// set-group-id directory gives its own group to new files. The name may stand for an
// older file by now, but not for one with other names, nor for one of another user.
func (r *Request) own(dir, f *file) error {
	if os.Geteuid() != 0 || f.Uid != 0 || f.Nlink > 1 && !f.is(unix.S_IFDIR) {
		return nil
	}
	gid := int(r.GID)
	if dir.Mode&unix.S_ISGID != 0 {
		gid = -1
	}
	if err := unix.Fchownat(f.fd, "", int(r.UID), gid, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return stat(f.fd, "", &f.Statx_t)
}

func (s *Server) remove(r *Request, flags int) error {
	dir, name, err := s.named(r)
	if err != nil {
		return err
	}
	defer dir.close()
	return unix.Unlinkat(dir.fd, name, flags)
}

func (s *Server) rename(r *Request, in rename2In) error {
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	name, err := r.name()
	if err != nil {
		return err
	}
	other, err := r.name()
	if err != nil {
		return err
	}
	from, err := s.reach(r.Node)
	if err != nil {
		return err
	}
	defer from.close()
	to, err := s.reach(in.Dir)
	if err != nil {
		return err
	}
	defer to.close()

	// Nobody opens a path while it changes.
	s.names.Lock()
	defer s.names.Unlock()
	if err := unix.Renameat2(from.fd, name, to.fd, other, uint(in.Flags)); err != nil {
		return err
	}
	s.moved(in.Dir, to, other)
	if in.Flags&unix.RENAME_EXCHANGE != 0 {
		s.moved(r.Node, from, name)
	}
	return nil
}

// moved notes where a node's file is now. If somebody else has moved it since, the
// client finds it when it looks it up again.
func (s *Server) moved(node uint64, dir *file, name string) {
	var st unix.Statx_t
	if stat(dir.fd, name, &st) == nil {
		_, _ = s.tree.found(node, name, identityOf(&st), 0)
	}
}
