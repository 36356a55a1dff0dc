package window

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"offmap/internal/process/unavailable"
	"offmap/memory"
)

// zeros is written over frames to wipe them.
var zeros [64 * memory.PageSize]byte

// offset returns the offset of a page in the file and the store, in bytes.
func offset(page uint32) int64 { return int64(page) * memory.PageSize }

// load copies pages [lo, hi) from the store to the file, which allocates their
// frames.
func (f *windowFile) load(lo, hi uint32) error {
	if err := f.write(f.store[offset(lo):offset(hi)], offset(lo)); err != nil {
		return err
	}
	return f.lockFrames(lo, hi)
}

// lockFrames locks the frames of pages [lo, hi) in memory, if the host has swap.
func (f *windowFile) lockFrames(lo, hi uint32) error {
	if f.locked == nil {
		return nil
	}
	if err := unix.Madvise(f.locked[offset(lo):offset(hi)], unix.MADV_POPULATE_READ); err != nil {
		return fmt.Errorf("madvise MADV_POPULATE_READ of the locked window: %w", err)
	}
	return nil
}

// save copies pages [lo, hi) from their frames to the store.
func (f *windowFile) save(lo, hi uint32) error {
	return f.read(f.store[offset(lo):offset(hi)], offset(lo))
}

// saveFirst saves a page that the store doesn't have, unless it is all zeros, as
// which the store reads a page that it doesn't have. That saves the allocation of
// a secret page, which is the slowest operation of secret memory. It reports
// whether the store has the page now.
func (f *windowFile) saveFirst(page uint32) (bool, error) {
	if err := f.read(f.buf.mem, offset(page)); err != nil || bytes.Equal(f.buf.mem, zeros[:memory.PageSize]) {
		return false, err
	}
	// The copy allocates the secret page, or returns an error if there is none.
	return true, f.save(page, page+1)
}

// free wipes and frees the frames of pages [lo, hi).
func (f *windowFile) free(lo, hi uint32) error {
	for p := lo; p < hi; {
		n := min(hi-p, uint32(len(zeros)/memory.PageSize))
		if err := f.write(zeros[:offset(n)], offset(p)); err != nil {
			return err
		}
		p += n
	}
	if err := punch(f.fd, offset(lo), offset(hi-lo)); err != nil {
		return fmt.Errorf("fallocate FALLOC_FL_PUNCH_HOLE of the window, %d pages: %w", hi-lo, err)
	}
	return nil
}

// scrub wipes and frees all frames of the file, those that Frames doesn't know of
// included.
func (f *windowFile) scrub() error {
	for off := int64(0); ; {
		lo, err := unix.Seek(f.fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("lseek of the window", err)
		}
		if off, err = unix.Seek(f.fd, lo, unix.SEEK_HOLE); err != nil {
			return os.NewSyscallError("lseek of the window", err)
		}
		if err := f.free(uint32(lo/memory.PageSize), uint32(off/memory.PageSize)); err != nil {
			return err
		}
	}
}

// read fills p from the file. p may be secret memory.
func (f *windowFile) read(p []byte, off int64) error {
	n, err := pread(f.fd, p, off)
	for errors.Is(err, unix.EINTR) {
		n, err = pread(f.fd, p, off)
	}
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, unix.EFAULT) {
		err = fmt.Errorf("the kernel allocates no secret memory (out of memory, or this user's other guests use up RLIMIT_MEMLOCK): %w", err)
	}
	if err != nil {
		return fmt.Errorf("pread of %d bytes of the window: %w", len(p), err)
	}
	return nil
}

// write writes p to the file, which allocates missing frames.
func (f *windowFile) write(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := pwrite(f.fd, p, off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("pwrite of %d bytes to the window: %w", len(p), err)
		}
		n = max(n, 0)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

var errHugeShmem = unavailable.New("the size of a window can't be bounded", "transparent_hugepage/shmem_enabled=never")

// checkFrames returns an error if the kernel allocates more than a page for a page
// of the file: the bound on frames would not hold.
func (f *windowFile) checkFrames() error {
	if err := f.write(zeros[:memory.PageSize], 0); err != nil {
		return err
	}
	size, err := f.allocated()
	if err != nil {
		return err
	}
	if size > memory.PageSize {
		return fmt.Errorf("%w: this host allocates %d KiB of shared memory for a page of %d KiB (transparent huge pages): "+
			"echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled", errHugeShmem, size>>10, memory.PageSize>>10)
	}
	return f.scrub()
}

// allocated returns how many bytes of memory the kernel has allocated to the file.
func (f *windowFile) allocated() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat of the window", err)
	}
	return uint64(st.Blocks) * 512, nil
}

// HostSwaps reports whether the host uses a swap area. It returns true if that
// can't be read.
func HostSwaps() bool {
	areas, err := os.ReadFile("/proc/swaps")
	return err != nil || bytes.Count(areas, []byte("\n")) > 1
}
