package memory

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of RemovedDevice (memory/kmod/offmap.h).
const (
	removedRemove  = 0x4010b910 // _IOW(0xb9, 0x10, struct offmap_remove)
	removedAlloc   = 0x4010b911 // _IOW(0xb9, 0x11, struct offmap_alloc)
	removedGetPool = 0x8020b912 // _IOR(0xb9, 0x12, struct offmap_pool)
	removedRestore = 0xb913     // _IO(0xb9, 0x13)
)

// removeRequest is struct offmap_remove.
type removeRequest struct{ start, size uint64 }

// allocRequest is struct offmap_alloc.
type allocRequest struct {
	flags, reserved uint32
	len             uint64
}

// RemovedPool is struct offmap_pool, all in bytes: the size of the kernel's memory
// blocks, the most RAM that the kernel may be without, how much it is without, and how
// much of that no guest has.
type RemovedPool struct{ Block, Limit, Removed, Free uint64 }

// removeRange has the kernel do without a range. Any signal ends the kernel's attempt, so
// there are several.
func removeRange(fd int, r PhysRange) (err error) {
	for range 5 {
		err = removedIoctl(fd, removedRemove, unsafe.Pointer(&removeRequest{r.Start, r.Size}))
		if err != unix.EINTR {
			break
		}
	}
	return err
}

// allocRemoved gives the open device size bytes of the pool.
func allocRemoved(fd int, size uint64) error {
	return removedIoctl(fd, removedAlloc, unsafe.Pointer(&allocRequest{len: size}))
}

// restoreRemoved gives the kernel back what nobody uses.
func restoreRemoved(fd int) error { return removedIoctl(fd, removedRestore, nil) }

func removedPool(fd int) (p RemovedPool, err error) {
	if err := removedIoctl(fd, removedGetPool, unsafe.Pointer(&p)); err != nil {
		return p, fmt.Errorf("ioctl OFFMAP_IOC_POOL: %w", err)
	}
	return p, nil
}

func removedIoctl(fd int, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
