package memory

import (
	"unsafe"

	"offmap/internal/abitest"
)

// removedABI are the sizes and offsets of the structures.
func removedABI() []abitest.Entry {
	var remove removeRequest
	var alloc allocRequest
	var pool RemovedPool
	return []abitest.Entry{
		{C: "sizeof(struct offmap_remove)", Want: uint64(unsafe.Sizeof(remove))},
		{C: "offsetof(struct offmap_remove, size)", Want: uint64(unsafe.Offsetof(remove.size))},
		{C: "sizeof(struct offmap_alloc)", Want: uint64(unsafe.Sizeof(alloc))},
		{C: "offsetof(struct offmap_alloc, reserved)", Want: uint64(unsafe.Offsetof(alloc.reserved))},
		{C: "offsetof(struct offmap_alloc, len)", Want: uint64(unsafe.Offsetof(alloc.len))},
		{C: "sizeof(struct offmap_pool)", Want: uint64(unsafe.Sizeof(pool))},
		{C: "offsetof(struct offmap_pool, limit)", Want: uint64(unsafe.Offsetof(pool.Limit))},
		{C: "offsetof(struct offmap_pool, removed)", Want: uint64(unsafe.Offsetof(pool.Removed))},
		{C: "offsetof(struct offmap_pool, free)", Want: uint64(unsafe.Offsetof(pool.Free))},
	}
}

// allocRequested is allocRemoved for requests that are wrong on purpose.
func allocRequested(fd int, req *allocRequest) error {
	return removedIoctl(fd, removedAlloc, unsafe.Pointer(req))
}

func addressOf(mem []byte) int64 { return int64(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))) }
