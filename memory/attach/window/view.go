package window

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// zeros is what frames are wiped with.
var zeros [64 * memory.PageSize]byte

// offset of a page in the file and the store.
func offset(page uint32) int64 { return int64(page) * memory.PageSize }

// load makes frames for pages [lo, hi) with what the store has for them.
func (v *view) load(lo, hi uint32) error {
	if err := v.write(v.store[offset(lo):offset(hi)], offset(lo)); err != nil {
		return err
	}
	return v.pin(lo, hi)
}

// pin keeps the frames of pages [lo, hi) out of swap, where there is any.
func (v *view) pin(lo, hi uint32) error {
	if v.locked == nil {
		return nil
	}
	if err := unix.Madvise(v.locked[offset(lo):offset(hi)], unix.MADV_POPULATE_READ); err != nil {
		return fmt.Errorf("madvise MADV_POPULATE_READ of the locked window: %w", err)
	}
	return nil
}

// save copies pages [lo, hi) from their frames to the store.
func (v *view) save(lo, hi uint32) error {
	return v.read(v.store[offset(lo):offset(hi)], offset(lo))
}

// saveFresh is save for a page that the store has never had. A page of zeros
// stays out of it: an untouched page reads as zeros, and a first touch is the
// dearest thing that secret memory does. It reports whether the store has the
// page now.
func (v *view) saveFresh(page uint32) (bool, error) {
	if err := v.read(v.look, offset(page)); err != nil || bytes.Equal(v.look, zeros[:memory.PageSize]) {
		return false, err
	}
	// The kernel makes the store's page here, or says that it can't.
	return true, v.save(page, page+1)
}

// free wipes the frames of pages [lo, hi) and gives them back to the kernel.
func (v *view) free(lo, hi uint32) error {
	for p := lo; p < hi; {
		n := min(hi-p, uint32(len(zeros)/memory.PageSize))
		if err := v.write(zeros[:offset(n)], offset(p)); err != nil {
			return err
		}
		p += n
	}
	if err := punch(v.fd, offset(lo), offset(hi-lo)); err != nil {
		return fmt.Errorf("fallocate FALLOC_FL_PUNCH_HOLE of the window, %d pages: %w", hi-lo, err)
	}
	return nil
}

// scrub wipes and frees every frame that the file has, whoever made it.
func (v *view) scrub() error {
	for off := int64(0); ; {
		lo, err := unix.Seek(v.fd, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("lseek of the window", err)
		}
		if off, err = unix.Seek(v.fd, lo, unix.SEEK_HOLE); err != nil {
			return os.NewSyscallError("lseek of the window", err)
		}
		if err := v.free(uint32(lo/memory.PageSize), uint32(off/memory.PageSize)); err != nil {
			return err
		}
	}
}

// read fills p from the file. p may be secret memory.
func (v *view) read(p []byte, off int64) error {
	n, err := pread(v.fd, p, off)
	for errors.Is(err, unix.EINTR) {
		n, err = pread(v.fd, p, off)
	}
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, unix.EFAULT) {
		err = fmt.Errorf("the kernel gives no secret memory (out of memory, or RLIMIT_MEMLOCK used up by this user's other guests): %w", err)
	}
	if err != nil {
		return fmt.Errorf("pread of %d bytes of the window: %w", len(p), err)
	}
	return nil
}

// write writes p to the file, which makes the frames that there aren't.
func (v *view) write(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := pwrite(v.fd, p, off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("pwrite of %d bytes to the window: %w", len(p), err)
		}
		n = max(n, 0)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// checkFrames refuses a kernel that backs a page of the file with more than a
// page: the bound would not hold.
func (v *view) checkFrames() error {
	if err := v.write(zeros[:memory.PageSize], 0); err != nil {
		return err
	}
	held, err := v.held()
	if err != nil {
		return err
	}
	if held > memory.PageSize {
		return fmt.Errorf("this host backs shared memory with huge pages, %d KiB for a page of %d, and a window of them can't be bounded: "+
			"echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled", held>>10, memory.PageSize>>10)
	}
	return v.scrub()
}

// held is how many bytes of ordinary memory the file has, as the kernel counts
// them.
func (v *view) held() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(v.fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat of the window", err)
	}
	return uint64(st.Blocks) * 512, nil
}

// HostSwaps reports whether the host has a swap area in use, or can't tell.
func HostSwaps() bool {
	areas, err := os.ReadFile("/proc/swaps")
	return err != nil || bytes.Count(areas, []byte("\n")) > 1
}
