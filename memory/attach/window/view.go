package window

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// pages is the part of a mapping that pages [lo, hi) are.
func pages(m []byte, lo, hi uint32) []byte {
	return m[uint64(lo)*memory.PageSize : uint64(hi)*memory.PageSize]
}

// punch gives the frames of pages [lo, hi) back to the kernel. They have been
// wiped before.
func (v *view) punch(lo, hi uint32) error {
	off, n := int64(lo)*memory.PageSize, int64(hi-lo)*memory.PageSize
	if err := unix.Fallocate(v.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
		return fmt.Errorf("fallocate FALLOC_FL_PUNCH_HOLE of the window at 0x%x, %d bytes: %w", off, n, err)
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
		hi, err := unix.Seek(v.fd, lo, unix.SEEK_HOLE)
		if err != nil {
			return os.NewSyscallError("lseek of the window", err)
		}
		if err := wipe(v.alias[lo:hi]); err != nil {
			return err
		}
		if err := v.punch(uint32(lo/memory.PageSize), uint32(hi/memory.PageSize)); err != nil {
			return err
		}
		off = hi
	}
}

// checkFrames refuses a kernel that backs a page of the file with more than a
// page: the bound would not hold.
func (v *view) checkFrames() error {
	if err := wipe(v.alias[:1]); err != nil {
		return err
	}
	held, err := v.held()
	if err != nil {
		return err
	}
	if held > memory.PageSize {
		return fmt.Errorf("this host backs shared memory with huge pages, %d KiB for one page of %d: "+
			"a window can't be bounded with them: echo never | sudo tee /sys/kernel/mm/transparent_hugepage/shmem_enabled",
			held>>10, memory.PageSize>>10)
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

// swaps reports whether the host has a swap area in use, or can't tell.
func swaps() bool {
	areas, err := os.ReadFile("/proc/swaps")
	return err != nil || bytes.Count(areas, []byte("\n")) > 1
}

var zeros [memory.PageSize]byte

// isZero reports whether a page is all zeros.
func isZero(page []byte) bool { return bytes.Equal(page, zeros[:]) }
