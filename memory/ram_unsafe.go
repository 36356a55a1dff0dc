package memory

import (
	"fmt"
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
	vec := make([]PageState, min(len(mem)/PageSize, window))
	var pages int
	for off := 0; off < len(mem); off += window * PageSize {
		n := min(len(mem)-off, window*PageSize) / PageSize
		if err := mincore(mem[off:], vec[:n]); err != nil {
			return 0, err
		}
		for _, v := range vec[:n] {
			pages += int(v & 1)
		}
	}
	return uint64(pages) * PageSize, nil
}

// mincore calls mincore(2) for the pages from the start of mem on: the lowest
// bit of each byte of vec says whether the page is there.
func mincore(mem []byte, vec []PageState) error {
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(mem))),
		uintptr(len(vec)*PageSize), uintptr(unsafe.Pointer(unsafe.SliceData(vec))))
	if errno != 0 {
		return fmt.Errorf("mincore of guest memory: %w", errno)
	}
	return nil
}
