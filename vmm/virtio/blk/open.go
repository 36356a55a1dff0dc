package blk

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/vmm/bounce"
)

// Options say how a disk is used.
type Options struct {
	// ReadOnly makes the disk read-only. Other guests can use the image so at the
	// same time.
	ReadOnly bool
	// Overlay keeps all that the guest writes in a temporary file, which ends with
	// the disk. The image is only read. The file is in $TMPDIR, or in /var/tmp.
	Overlay bool
	// Cache says what the host does with the disk's data.
	Cache Cache
	// Log is told of I/O errors, once for each kind of request. nil is nobody.
	Log func(error)
}

// Cache says what the host does with a disk's data.
type Cache string

// Values of Cache.
const (
	// CacheBuffered is the host's page cache. The kernel copies between it and guest
	// RAM. It is the default.
	CacheBuffered Cache = "buffered"
	// CacheNone bypasses the page cache, by O_DIRECT. Data passes through buffers in
	// ordinary memory, which are bounded, locked and wiped (package bounce).
	CacheNone Cache = "none"
)

// ErrInUse is wrapped by the error for an image that is locked.
var ErrInUse = errors.New("in use")

// Open opens the image or the block device at path as a disk, and locks it: for this
// disk alone, or against writers if it is only read. Errors say what to do.
func Open(path string, o Options) (*Disk, error) {
	d, err := open(path, o)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", path, err)
	}
	return d, nil
}

func open(path string, o Options) (*Disk, error) {
	if o.ReadOnly && o.Overlay {
		return nil, errors.New("read-only and with an overlay: an overlay is for a disk that is written")
	}
	switch o.Cache = cmp.Or(o.Cache, CacheBuffered); o.Cache {
	case CacheBuffered, CacheNone:
	default:
		return nil, fmt.Errorf("no cache %q", o.Cache)
	}
	writable := !o.ReadOnly && !o.Overlay
	im, err := openImage(path, writable)
	if err != nil {
		return nil, err
	}
	d := &Disk{
		path: path, size: im.size, readOnly: o.ReadOnly,
		logical: im.logical, physical: im.physical,
		log: o.Log, counters: newCounters(), logged: map[string]bool{},
	}
	copy(d.id[:], filepath.Base(path))
	if err := d.openStore(&file{fd: im.fd, cached: im.cached}, o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// openStore makes the disk's store of its image. Close closes what there is if it
// fails.
func (d *Disk) openStore(image *file, o Options) (err error) {
	d.store = image
	if o.Cache == CacheNone {
		if d.pool, err = bounce.New(maxWorkers, bounceSize); err != nil {
			return err
		}
		if d.store, err = newDirect(image, d.size, d.pool); err != nil {
			d.store = image
			return err
		}
	}
	if !o.Overlay {
		return nil
	}
	size := (d.size + memory.PageSize - 1) &^ (memory.PageSize - 1) // for O_DIRECT
	temporary, err := openTemporary(size)
	if err != nil {
		return err
	}
	var own store = temporary
	if o.Cache == CacheNone {
		if own, err = newDirect(temporary, size, d.pool); err != nil {
			return errors.Join(fmt.Errorf("overlay (set TMPDIR for another directory): %w", err), temporary.close())
		}
	}
	d.store = newOverlay(d.store, own, d.size)
	return nil
}

// image is an open image, or block device.
type image struct {
	fd                int
	size              int64
	logical, physical int  // block sizes in bytes
	cached            bool // it is in memory only
}

// openImage opens and locks an image.
func openImage(path string, writable bool) (im image, err error) {
	flags := unix.O_RDONLY
	if writable {
		flags = unix.O_RDWR
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && writable {
		flags |= unix.O_EXCL // open(2): nothing on the host uses the device
	}
	// O_NONBLOCK is for a FIFO, which fails below.
	im.fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return im, openError(path, writable, err)
	}
	if err = im.measure(); err == nil {
		err = lock(im.fd, writable)
	}
	if err != nil {
		unix.Close(im.fd)
	}
	return im, err
}

// openError says what to do about an image that can't be opened.
func openError(path string, writable bool, err error) error {
	readable := writable && unix.Access(path, unix.R_OK) == nil
	switch {
	case errors.Is(err, unix.EISDIR):
		return errDirectory
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w by the host, which has it mounted or part of another device: unmount it, or use it read-only (,ro)", ErrInUse)
	case readable && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM)):
		return fmt.Errorf("it can be read but not written (%w): use it read-only (,ro), or with an overlay for what the guest writes (,overlay)", err)
	}
	return err
}

var errDirectory = errors.New("a directory: a disk is an image file or a block device; --share is for directories")

// measure finds out the size of an image and its blocks.
func (im *image) measure() error {
	var st unix.Stat_t
	if err := unix.Fstat(im.fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	im.logical, im.physical = sector, 4096
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		im.size = st.Size
		var err error
		if im.cached, err = inMemory(im.fd); err != nil {
			return err
		}
	case unix.S_IFBLK:
		if err := im.measureDevice(); err != nil {
			return err
		}
	case unix.S_IFDIR:
		return errDirectory
	default:
		return errors.New("neither a regular file nor a block device")
	}
	switch rest := im.size % sector; {
	case im.size == 0:
		return errors.New("empty: truncate -s 1G FILE makes it a disk of 1 GiB")
	case rest != 0:
		return fmt.Errorf("%d bytes, which is not a multiple of %d: truncate -s %%%d FILE adds %d bytes. If it is a qcow2 or compressed image, make it a raw one first",
			im.size, sector, sector, sector-rest)
	}
	return nil
}

// inMemory reports whether a file's file system keeps its files in memory.
func inMemory(fd int) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC, nil
}

// measureDevice is measure for a block device.
func (im *image) measureDevice() error {
	end, err := unix.Seek(im.fd, 0, unix.SEEK_END)
	if err != nil {
		return os.NewSyscallError("lseek", err)
	}
	im.size = end
	if im.logical, err = unix.IoctlGetInt(im.fd, unix.BLKSSZGET); err != nil {
		return os.NewSyscallError("ioctl BLKSSZGET", err)
	}
	physical, err := unix.IoctlGetInt(im.fd, unix.BLKPBSZGET)
	if err != nil {
		return os.NewSyscallError("ioctl BLKPBSZGET", err)
	}
	im.physical = max(im.logical, physical)
	return nil
}

// lock locks all of an image, by the open file (fcntl(2), OFD locks): it ends with it.
func lock(fd int, writable bool) error {
	l := unix.Flock_t{Type: unix.F_RDLCK}
	if writable {
		l.Type = unix.F_WRLCK
	}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES):
		if writable {
			return fmt.Errorf("%w by another guest: end that one, or use the image in both read-only (,ro) or with an overlay (,overlay)", ErrInUse)
		}
		return fmt.Errorf("%w by another guest, which writes to it: end that one", ErrInUse)
	}
	return fmt.Errorf("it can't be locked against other guests: %w", os.NewSyscallError("fcntl", err))
}

// openTemporary makes a file without a name for an overlay.
func openTemporary(size int64) (*file, error) {
	dir := cmp.Or(os.Getenv("TMPDIR"), "/var/tmp")
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) {
		fd, err = openUnlinked(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("overlay in %s (set TMPDIR for another directory): %w", dir, err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("overlay of %d bytes in %s (set TMPDIR for another directory): %w", size, dir, err)
	}
	cached, err := inMemory(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &file{fd: fd, cached: cached}, nil
}

// openUnlinked is openTemporary where the file system has no O_TMPFILE.
func openUnlinked(dir string) (int, error) {
	f, err := os.CreateTemp(dir, "offmap-overlay-")
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return -1, err
	}
	return unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
}
