package audit

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls that x/sys/unix has no function for.

// mincore says of each page of mem whether it is in memory, in bit 0 of vec's
// bytes, mincore(2).
func mincore(mem, vec []byte) error {
	_ = vec[(len(mem)-1)/pageSize]
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mem[0])), uintptr(len(mem)), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		return errno
	}
	return nil
}

// addressOf is the address of a mapping.
func addressOf(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&mem[0]))) }

// mapAligned maps size bytes of a file to read, at a multiple of align.
func mapAligned(fd int, size, align int64) (mem []byte, unmap func(), err error) {
	room := uintptr(size + align)
	p, err := unix.MmapPtr(-1, 0, nil, room, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, fmt.Errorf("mmap of room for %d bytes: %w", size, err)
	}
	unmap = func() { unix.MunmapPtr(p, room) }
	at := unsafe.Add(p, -uintptr(p)&uintptr(align-1))
	if _, err := unix.MmapPtr(fd, 0, at, uintptr(size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		unmap()
		return nil, nil, fmt.Errorf("mmap of %d bytes of the VMM's: %w", size, err)
	}
	return unsafe.Slice((*byte)(at), size), unmap, nil
}

// processMadvise gives advice on an area of another process's memory,
// process_madvise(2). It returns for how many bytes the advice was taken.
func processMadvise(pidfd int, a area, advice int) (int, error) {
	iov := unix.RemoteIovec{Base: uintptr(a.Start), Len: int(a.Size())}
	n, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(pidfd), uintptr(unsafe.Pointer(&iov)), 1, uintptr(advice), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// movePages moves pages of another process, each to a node, move_pages(2). status
// gets a node or a negative errno for each.
func movePages(pid int, addrs []uintptr, nodes, status []int32) error {
	n := len(addrs)
	_, _ = nodes[n-1], status[n-1]
	_, _, errno := unix.Syscall6(unix.SYS_MOVE_PAGES, uintptr(pid), uintptr(n), uintptr(unsafe.Pointer(&addrs[0])),
		uintptr(unsafe.Pointer(&nodes[0])), uintptr(unsafe.Pointer(&status[0])), moveAll)
	if errno != 0 {
		return errno
	}
	return nil
}

// moveAll is MPOL_MF_MOVE_ALL of linux/mempolicy.h: move pages that other processes
// map as well.
const moveAll = 1 << 2
