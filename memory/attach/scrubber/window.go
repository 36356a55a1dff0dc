package scrubber

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

var (
	errNotMemfd = errors.New("is not a memfd of whole pages of 4 KiB")
	errReadOnly = errors.New("can't be overwritten")
)

// open duplicates the window's descriptor. It returns an error if the scrubber
// can't wipe the file, which must be on tmpfs, have whole pages, and be writable
// at any offset.
func open(window int) (_ *os.File, err error) {
	fd, err := unix.FcntlInt(uintptr(window), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("dup of the window's descriptor %d: %w", window, err)
	}
	file := os.NewFile(uintptr(fd), "window")
	defer func() {
		if err != nil {
			file.Close()
		}
	}()

	var fs unix.Statfs_t
	var stat unix.Stat_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return nil, fmt.Errorf("fstatfs of the window: %w", err)
	}
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, fmt.Errorf("fstat of the window: %w", err)
	}
	if fs.Type != unix.TMPFS_MAGIC || stat.Mode&unix.S_IFMT != unix.S_IFREG || stat.Size%int64(os.Getpagesize()) != 0 {
		return nil, fmt.Errorf("the window (descriptor %d) %w", window, errNotMemfd)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl F_GETFL of the window: %w", err)
	}
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("fcntl F_GET_SEALS of the window: %w", err)
	}
	if flags&(unix.O_ACCMODE|unix.O_APPEND) != unix.O_RDWR || seals&(unix.F_SEAL_WRITE|unix.F_SEAL_FUTURE_WRITE) != 0 {
		return nil, fmt.Errorf("the window (descriptor %d) %w: flags %#x, seals %#x", window, errReadOnly, flags, seals)
	}
	return file, nil
}
