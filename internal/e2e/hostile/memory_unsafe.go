package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the size in bytes of the pages that devices are given: contiguous guest
// RAM, which the guest's kernel doesn't move.
const hugePage = 2 << 20

// hugePages returns n huge pages, and their guest-physical addresses.
func hugePages(n int) (pages [][]byte, gpas []uint64, err error) {
	if err := os.WriteFile("/proc/sys/vm/nr_hugepages", fmt.Append(nil, n), 0); err != nil {
		return nil, nil, err
	}
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	for range n {
		p, err := unix.Mmap(-1, 0, hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB|unix.MAP_POPULATE)
		if err != nil {
			return nil, nil, fmt.Errorf("mmap of a huge page: %w", err)
		}
		// Documentation/admin-guide/mm/pagemap.rst: bit 63 is "present", bits 0 to
		// 54 are the frame's number.
		var entry [8]byte
		at := uintptr(unsafe.Pointer(unsafe.SliceData(p))) / 4096 * 8
		if _, err := f.ReadAt(entry[:], int64(at)); err != nil {
			return nil, nil, err
		}
		v := binary.LittleEndian.Uint64(entry[:])
		gpa := v & (1<<55 - 1) * 4096
		if v>>63 == 0 || gpa == 0 || gpa%hugePage != 0 {
			return nil, nil, fmt.Errorf("pagemap of a huge page says %#x", v)
		}
		pages, gpas = append(pages, p), append(gpas, gpa)
	}
	return pages, gpas, nil
}

// bar is a BAR that is mapped. Each access is one instruction.
type bar []byte

//go:noinline
func (b bar) read(off, size int) uint64 {
	p := unsafe.Pointer(&b[off : off+size][0])
	switch size {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	}
	return *(*uint64)(p)
}

//go:noinline
func (b bar) write(off, size int, v uint64) {
	p := unsafe.Pointer(&b[off : off+size][0])
	switch size {
	case 1:
		*(*uint8)(p) = uint8(v)
	case 2:
		*(*uint16)(p) = uint16(v)
	case 4:
		*(*uint32)(p) = uint32(v)
	default:
		*(*uint64)(p) = v
	}
}
