package fuse

import (
	"time"

	"golang.org/x/sys/unix"
)

func (s *Server) attrOf(st *unix.Statx_t) attr {
	a := attr{
		Ino: st.Ino, Size: st.Size, Blocks: st.Blocks,
		Atime: uint64(st.Atime.Sec), Mtime: uint64(st.Mtime.Sec), Ctime: uint64(st.Ctime.Sec),
		AtimeNsec: st.Atime.Nsec, MtimeNsec: st.Mtime.Nsec, CtimeNsec: st.Ctime.Nsec,
		Mode: uint32(st.Mode), Nlink: st.Nlink, UID: st.Uid, GID: st.Gid, Blksize: st.Blksize,
	}
	if s.options.Privileged {
		// As the kernel's new_encode_dev: 12 bits of major, 20 of minor.
		a.Rdev = st.Rdev_minor&0xff | st.Rdev_major<<8 | st.Rdev_minor&^0xff<<12
	}
	return a
}

func (s *Server) validity() (sec uint64, nsec uint32) {
	return uint64(s.options.Validity / time.Second), uint32(s.options.Validity % time.Second)
}

func (s *Server) attributes(st *unix.Statx_t) attrOut {
	out := attrOut{Attr: s.attrOf(st)}
	out.Valid, out.ValidNsec = s.validity()
	return out
}

// entry is the answer to requests that make or look up a name. It counts a lookup.
func (s *Server) entry(dir uint64, name string, st *unix.Statx_t) (e entryOut, err error) {
	e.Attr = s.attrOf(st)
	e.EntryValid, e.EntryValidNsec = s.validity()
	e.AttrValid, e.AttrValidNsec = e.EntryValid, e.EntryValidNsec
	e.Node, err = s.tree.found(dir, name, identityOf(st), 1)
	return e, err
}

func (s *Server) getattr(r *Request) (any, error) {
	in, err := take[getattrIn](r)
	if err != nil {
		return nil, err
	}
	if r.Node == rootID && s.tree.root.shown != nil {
		return attrOut{Attr: attr{Ino: rootID, Mode: unix.S_IFDIR | 0o555, Nlink: 2}}, nil
	}
	f, err := s.reachOr(r.Node, in.Handle, in.Flags&getattrHandle != 0)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return s.attributes(&f.Statx_t), nil
}

func (s *Server) setattr(r *Request) (any, error) {
	in, err := take[setattrIn](r)
	if err != nil {
		return nil, err
	}
	f, err := s.reachOr(r.Node, in.Handle, in.Valid&setHandle != 0)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if in.Valid&(setUID|setGID) != 0 {
		uid, gid := -1, -1
		if in.Valid&setUID != 0 {
			uid = int(in.UID)
		}
		if in.Valid&setGID != 0 {
			gid = int(in.GID)
		}
		if err := unix.Fchownat(f.fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return nil, err
		}
	}
	if in.Valid&setMode != 0 {
		if f.is(unix.S_IFLNK) {
			return nil, unix.EOPNOTSUPP
		}
		if err := unix.Chmod(f.link(), s.modeOf(in.Mode, f.is(unix.S_IFDIR))); err != nil {
			return nil, err
		}
	}
	if in.Valid&setSize != 0 {
		if err := s.truncate(f, in.Size); err != nil {
			return nil, err
		}
	}
	if in.Valid&(setAtime|setMtime) != 0 {
		times := []unix.Timespec{
			timeOf(in.Valid&setAtime != 0, in.Valid&setAtimeNow != 0, in.Atime, in.AtimeNsec),
			timeOf(in.Valid&setMtime != 0, in.Valid&setMtimeNow != 0, in.Mtime, in.MtimeNsec),
		}
		if err := unix.UtimesNanoAt(f.fd, "", times, unix.AT_EMPTY_PATH); err != nil {
			return nil, err
		}
	}
	if err := stat(f.fd, "", &f.Statx_t); err != nil {
		return nil, err
	}
	return s.attributes(&f.Statx_t), nil
}

// modeOf returns the mode that a file gets if the client wants mode. A set-group-id
// directory gives its group to new files, which is harmless.
func (s *Server) modeOf(mode uint32, dir bool) uint32 {
	mode &= 0o7777
	if !s.options.Privileged && !dir {
		mode &^= setID
	}
	return mode
}

// truncate uses the descriptor if it can write: the file's mode may not allow to open
// it again.
func (s *Server) truncate(f *file, size uint64) error {
	if !f.is(unix.S_IFREG) || int64(size) < 0 {
		return unix.EINVAL
	}
	if err := s.stripSetID(f); err != nil {
		return err
	}
	if unix.Ftruncate(f.fd, int64(size)) == nil {
		return nil
	}
	fd, err := s.openFile(f, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, int64(size))
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

func (s *Server) statfs(r *Request) (any, error) {
	f, err := s.reach(r.Node)
	if err != nil {
		return nil, err
	}
	defer f.close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(f.fd, &st); err != nil {
		return nil, err
	}
	return statfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail, Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Namelen: uint32(st.Namelen), Frsize: uint32(st.Frsize),
	}, nil
}
