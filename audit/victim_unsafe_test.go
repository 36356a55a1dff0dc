package audit

import (
	"unsafe"

	"offmap/memory"
)

// bytesOf is RAM as its owner has it mapped.
func bytesOf(ram *memory.RAM) []byte {
	return unsafe.Slice((*byte)(ram.Pointer()), ram.Layout().Size())
}

func placeOf(mem []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&mem[0]))) }
