package fuse

import (
	"encoding/binary"
	"testing"

	"offmap/internal/abitest"
)

// TestABI compares the numbers in abi.go with the kernel's header.
func TestABI(t *testing.T) {
	size := func(name string, v any) abitest.Entry {
		return abitest.Entry{C: "sizeof(struct " + name + ")", Want: uint64(binary.Size(v))}
	}
	number := func(name string, n uint64) abitest.Entry { return abitest.Entry{C: name, Want: n} }
	abitest.Compare(t, "#include <linux/fuse.h>\n", []abitest.Entry{
		size("fuse_in_header", inHeader{}), size("fuse_out_header", outHeader{}), size("fuse_attr", attr{}),
		size("fuse_entry_out", entryOut{}), size("fuse_attr_out", attrOut{}), size("fuse_init_out", initOut{}),
		size("fuse_getattr_in", getattrIn{}), size("fuse_setattr_in", setattrIn{}), size("fuse_open_in", openIn{}),
		size("fuse_create_in", createIn{}), size("fuse_mknod_in", mknodIn{}), size("fuse_mkdir_in", mkdirIn{}),
		size("fuse_rename_in", renameIn{}), size("fuse_rename2_in", rename2In{}), size("fuse_forget_in", forgetIn{}),
		size("fuse_batch_forget_in", batchIn{}), size("fuse_forget_one", batchItem{}), size("fuse_link_in", linkIn{}),
		size("fuse_open_out", openOut{}), size("fuse_read_in", transferIn{}), size("fuse_write_in", transferIn{}),
		size("fuse_write_out", writeOut{}), size("fuse_fsync_in", fsyncIn{}), size("fuse_fallocate_in", fallocateIn{}),
		size("fuse_lseek_in", lseekIn{}), size("fuse_lseek_out", lseekOut{}), size("fuse_statfs_out", statfsOut{}),
		size("fuse_dirent", dirent{}), {C: "offsetof(struct fuse_direntplus, dirent)", Want: uint64(binary.Size(entryOut{}))},
		{C: "offsetof(struct fuse_setattr_in, mode)", Want: 68}, {C: "offsetof(struct fuse_setattr_in, uid)", Want: 76},
		{C: "offsetof(struct fuse_init_out, max_write)", Want: 20}, {C: "offsetof(struct fuse_init_out, max_pages)", Want: 28},
		number("FUSE_LOOKUP", opLookup), number("FUSE_FORGET", opForget), number("FUSE_GETATTR", opGetattr),
		number("FUSE_SETATTR", opSetattr), number("FUSE_READLINK", opReadlink), number("FUSE_SYMLINK", opSymlink),
		number("FUSE_MKNOD", opMknod), number("FUSE_MKDIR", opMkdir), number("FUSE_UNLINK", opUnlink),
		number("FUSE_RMDIR", opRmdir), number("FUSE_RENAME", opRename), number("FUSE_LINK", opLink),
		number("FUSE_OPEN", opOpen), number("FUSE_READ", opRead), number("FUSE_WRITE", opWrite),
		number("FUSE_STATFS", opStatfs), number("FUSE_RELEASE", opRelease), number("FUSE_FSYNC", opFsync),
		number("FUSE_INIT", opInit), number("FUSE_OPENDIR", opOpendir), number("FUSE_READDIR", opReaddir),
		number("FUSE_RELEASEDIR", opReleasedir), number("FUSE_FSYNCDIR", opFsyncdir), number("FUSE_CREATE", opCreate),
		number("FUSE_INTERRUPT", opInterrupt), number("FUSE_DESTROY", opDestroy), number("FUSE_BATCH_FORGET", opBatchForget),
		number("FUSE_FALLOCATE", opFallocate), number("FUSE_RENAME2", opRename2), number("FUSE_LSEEK", opLseek),
		number("FUSE_ASYNC_READ", initAsyncRead), number("FUSE_BIG_WRITES", initBigWrites),
		number("FUSE_AUTO_INVAL_DATA", initAutoInval), number("FUSE_PARALLEL_DIROPS", initParallelDirs),
		number("FUSE_DO_READDIRPLUS", initReaddirplus), number("FUSE_READDIRPLUS_AUTO", initReaddirplusAuto),
		number("FUSE_CACHE_SYMLINKS", initCacheSymlinks), number("FOPEN_KEEP_CACHE", openKeepCache),
		number("FUSE_WRITE_CACHE", writeCache), number("FUSE_READDIRPLUS", opReaddirplus),
		number("FUSE_MAX_PAGES", initMaxPages), number("FUSE_GETATTR_FH", getattrHandle),
		number("FATTR_MODE", setMode), number("FATTR_UID", setUID), number("FATTR_GID", setGID),
		number("FATTR_SIZE", setSize), number("FATTR_ATIME", setAtime), number("FATTR_MTIME", setMtime),
		number("FATTR_FH", setHandle), number("FATTR_ATIME_NOW", setAtimeNow), number("FATTR_MTIME_NOW", setMtimeNow),
	})
}
