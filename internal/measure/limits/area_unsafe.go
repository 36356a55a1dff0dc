package limits

import (
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// addr is where the area is mapped.
func (a *area) addr() uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(a.mem))) }

// page is the whole page in which a small area begins.
func (a *area) page() []byte {
	start := unsafe.Add(unsafe.Pointer(unsafe.SliceData(a.mem)), -int(a.addr()%memory.PageSize))
	return unsafe.Slice((*byte)(start), memory.PageSize)
}

// heapNeighbours makes 32 buffers of 64 bytes on the heap, and counts those that
// share a page with another.
func heapNeighbours() (n int) {
	buffers, pages := [32]*[64]byte{}, map[uintptr]int{}
	for i := range buffers {
		buffers[i] = new([64]byte)
		pages[uintptr(unsafe.Pointer(buffers[i]))/memory.PageSize]++
	}
	for _, b := range buffers {
		if pages[uintptr(unsafe.Pointer(b))/memory.PageSize] > 1 {
			n++
		}
	}
	return n
}

// resident counts the area's pages that exist, mincore(2).
func (a *area) resident() (int, error) {
	vec := make([]byte, (len(a.mem)+memory.PageSize-1)/memory.PageSize)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, a.addr(), uintptr(len(a.mem)), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		return 0, fmt.Errorf("mincore: %w", errno)
	}
	n := 0
	for _, v := range vec {
		n += bits.OnesCount8(v & 1)
	}
	return n, nil
}

// readRemotely reads a page of this process as if it were another's,
// process_vm_readv(2).
func (a *area) readRemotely() error {
	var buf [memory.PageSize]byte
	local := []unix.Iovec{{Base: &buf[0], Len: memory.PageSize}}
	remote := []unix.RemoteIovec{{Base: a.addr(), Len: memory.PageSize}}
	_, err := unix.ProcessVMReadv(unix.Getpid(), local, remote, 0)
	return err
}
