package memory

import (
	"fmt"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pointer is where backend offset 0 is mapped in this process (the HVA), for
// KVM's slots. It is not Go memory; use ReadAt and WriteAt to get at it.
func (r *RAM) Pointer() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(r.mem)) }

// Populated returns how many bytes of RAM have memory behind them, from
// mincore(2): untouched pages cost nothing and aren't counted. For memory that
// was swapped out it counts too little.
func (r *RAM) Populated() (uint64, error) {
	mem := r.mem[:r.layout.Size()]
	if r.backend.carved {
		return uint64(len(mem)), nil
	}
	const window = 1 << 30 / PageSize // pages a call, so that the vector stays small
	vec := make([]byte, min(len(mem)/PageSize, window))
	var pages int
	for off := 0; off < len(mem); off += window * PageSize {
		n := min(len(mem)-off, window*PageSize)
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mem[off])),
			uintptr(n), uintptr(unsafe.Pointer(&vec[0])))
		if errno != 0 {
			return 0, fmt.Errorf("mincore of guest memory: %w", errno)
		}
		for _, v := range vec[:n/PageSize] {
			pages += bits.OnesCount8(v & 1)
		}
	}
	return uint64(pages) * PageSize, nil
}
