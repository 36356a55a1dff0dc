package fuse

// The part of FUSE's protocol, version 7.31, that this package uses, from
// include/uapi/linux/fuse.h. A test compares it with the kernel's headers.

const (
	major = 7
	minor = 31

	rootID = 1 // FUSE_ROOT_ID

	headerIn  = 40 // struct fuse_in_header
	headerOut = 16 // struct fuse_out_header
)

// Requests.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opReadlink    = 5
	opSymlink     = 6
	opMknod       = 8
	opMkdir       = 9
	opUnlink      = 10
	opRmdir       = 11
	opRename      = 12
	opLink        = 13
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opFsyncdir    = 30
	opCreate      = 35
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
	opFallocate   = 43
	opReaddirplus = 44
	opRename2     = 45
	opLseek       = 46
)

// Flags.
const (
	initAsyncRead       = 1 << 0
	initBigWrites       = 1 << 5
	initAutoInval       = 1 << 12
	initReaddirplus     = 1 << 13 // FUSE_DO_READDIRPLUS
	initReaddirplusAuto = 1 << 14
	initParallelDirs    = 1 << 18
	initMaxPages        = 1 << 22
	initCacheSymlinks   = 1 << 23

	openKeepCache = 1 << 1 // FOPEN_KEEP_CACHE
	getattrHandle = 1 << 0 // FUSE_GETATTR_FH
	writeCache    = 1 << 0 // FUSE_WRITE_CACHE: the handle may be any that can write
	fsyncDataOnly = 1 << 0 // FUSE_FSYNC_FDATASYNC
)

const (
	entryOutSize      = 128 // struct fuse_entry_out
	direntHeader      = 24  // struct fuse_dirent without its name
	linuxDirentHeader = 19  // struct linux_dirent64 without its name, getdents64(2)
)

// What SETATTR sets, FATTR_*.
const (
	setMode     = 1 << 0
	setUID      = 1 << 1
	setGID      = 1 << 2
	setSize     = 1 << 3
	setAtime    = 1 << 4
	setMtime    = 1 << 5
	setHandle   = 1 << 6
	setAtimeNow = 1 << 7
	setMtimeNow = 1 << 8
)

type inHeader struct {
	Len, Opcode           uint32
	Unique, Node          uint64
	UID, GID, PID, Extras uint32
}

type outHeader struct {
	Len    uint32
	Error  int32
	Unique uint64
}

type attr struct {
	Ino, Size, Blocks, Atime, Mtime, Ctime      uint64
	AtimeNsec, MtimeNsec, CtimeNsec             uint32
	Mode, Nlink, UID, GID, Rdev, Blksize, Flags uint32
}

// entryOut is the answer to requests that make or look up a name.
type entryOut struct {
	Node, Generation, EntryValid, AttrValid uint64
	EntryValidNsec, AttrValidNsec           uint32
	Attr                                    attr
}

type attrOut struct {
	Valid     uint64
	ValidNsec uint32
	_         uint32
	Attr      attr
}

type initIn struct{ Major, Minor, MaxReadahead, Flags uint32 }

type initOut struct {
	Major, Minor, MaxReadahead, Flags  uint32
	MaxBackground, CongestionThreshold uint16
	MaxWrite, TimeGran                 uint32
	MaxPages, MapAlignment             uint16
	_                                  [8]uint32
}

type getattrIn struct {
	Flags, _ uint32
	Handle   uint64
}

type setattrIn struct {
	Valid, _                                 uint32
	Handle, Size, _, Atime, Mtime, Ctime     uint64
	AtimeNsec, MtimeNsec, CtimeNsec, Mode, _ uint32
	UID, GID, _                              uint32
}

type (
	openIn    struct{ Flags, OpenFlags uint32 }
	createIn  struct{ Flags, Mode, Umask, OpenFlags uint32 }
	mknodIn   struct{ Mode, Rdev, Umask, _ uint32 }
	mkdirIn   struct{ Mode, Umask uint32 }
	renameIn  struct{ Dir uint64 }
	forgetIn  struct{ Lookups uint64 }
	batchIn   struct{ Count, _ uint32 }
	batchItem struct{ Node, Lookups uint64 }
	linkIn    struct{ Node uint64 }
	releaseIn struct{ Handle uint64 }
	writeOut  struct{ Size, _ uint32 }
	lseekOut  struct{ Offset uint64 }
	rename2In struct {
		Dir      uint64
		Flags, _ uint32
	}
	openOut struct {
		Handle   uint64
		Flags, _ uint32
	}
	transferIn struct { // of READ, READDIR and WRITE
		Handle, Offset uint64
		Size, Flags    uint32
		_              uint64
		OpenFlags, _   uint32
	}
	fsyncIn struct {
		Handle   uint64
		Flags, _ uint32
	}
	fallocateIn struct {
		Handle, Offset, Length uint64
		Mode, _                uint32
	}
	lseekIn struct {
		Handle, Offset uint64
		Whence, _      uint32
	}
)

type statfsOut struct {
	Blocks, Bfree, Bavail, Files, Ffree uint64
	Bsize, Namelen, Frsize, _           uint32
	_                                   [6]uint32
}

type dirent struct {
	Ino, Off     uint64
	Namelen, Typ uint32
}
