package limits

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// UDMABUF_CREATE and its structure (include/uapi/linux/udmabuf.h).
const (
	udmabufRequest = 0x40187542
	udmabufCloexec = 1
)

type udmabufArg struct {
	memfd, flags uint32
	offset, size uint64
}

// udmabufCreate returns a dma-buf of the first size bytes of a memfd.
func udmabufCreate(device, memfd int, size uint64) (int, error) {
	arg := udmabufArg{memfd: uint32(memfd), flags: udmabufCloexec, size: size}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), udmabufRequest, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
