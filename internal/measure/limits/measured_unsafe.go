package limits

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
)

// bytesOf is RAM as a slice, for system calls that take a buffer. It is good
// until ram is closed. Reading and writing it in Go can raise SIGBUS; of pages
// that ram.WriteAt has written before it can't.
func bytesOf(ram *memory.RAM) []byte {
	return unsafe.Slice((*byte)(ram.Pointer()), ram.Layout().Size())
}

// smallPages keeps transparent huge pages out of ram.
func smallPages(ram *memory.RAM) error {
	err := unix.Madvise(bytesOf(ram), unix.MADV_NOHUGEPAGE)
	if err == unix.EINVAL { // a kernel without them
		return nil
	}
	return os.NewSyscallError("madvise MADV_NOHUGEPAGE", err)
}

// vacate replaces this process's mapping of RAM by an inaccessible one, so that
// nothing else is mapped there before ram.Close unmaps it.
func vacate(ram *memory.RAM) error {
	_, err := unix.MmapPtr(-1, 0, ram.Pointer(), uintptr(ram.Layout().Size()),
		unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED)
	return os.NewSyscallError("mmap over guest memory", err)
}

// protect changes the protection of the page at gpa in the mapping that a slot
// is made from.
func protect(s kvm.Slot, gpa memory.GPA, prot int) error {
	page := unsafe.Slice((*byte)(unsafe.Add(s.Memory, uint64(gpa)-s.GPA)), memory.PageSize)
	return os.NewSyscallError("mprotect of a slot's mapping", unix.Mprotect(page, prot))
}

// hostWord reads a word of a slot through the mapping that it is made from, as
// any code of this process could: by a system call, which reports what a load
// would be killed for.
func hostWord(s kvm.Slot, gpa memory.GPA) (word uint32, err error) {
	from := unsafe.Slice((*byte)(unsafe.Add(s.Memory, uint64(gpa)-s.GPA)), 4)
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	if _, err := unix.Write(p[1], from); err != nil {
		return 0, fmt.Errorf("write of guest memory to a pipe: %w", err)
	}
	var b [4]byte
	if _, err := unix.Read(p[0], b[:]); err != nil {
		return 0, os.NewSyscallError("read of a pipe", err)
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24, nil
}
