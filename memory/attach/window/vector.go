package window

import (
	"golang.org/x/sys/unix"

	"offmap/memory"
)

// Preadv reads from a file into guest memory: see memory.Guest.
func (w *Window) Preadv(fd int, buf memory.Ranges, off int64, flags int) (int, error) {
	return 0, unix.ENOSYS
}

// Pwritev writes guest memory to a file: see memory.Guest.
func (w *Window) Pwritev(fd int, buf memory.Ranges, off int64, flags int) (int, error) {
	return 0, unix.ENOSYS
}
