package memory

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pointer returns the address (HVA) at which backend offset 0 is mapped in this
// process, for KVM's slots. It is not Go memory: ReadAt and WriteAt access it.
func (r *RAM) Pointer() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(r.mem)) }

// load copies guest memory to p, and an aligned pair of bytes with one load: Go's
// copy takes them one at a time.
func load(p, mem []byte) int {
	if at := unsafe.Pointer(unsafe.SliceData(mem)); len(p) == 2 && uintptr(at)&1 == 0 {
		v := *(*uint16)(at)
		p[0], p[1] = byte(v), byte(v>>8)
		return 2
	}
	return copy(p, mem)
}

// store copies p to guest memory, as load does.
func store(mem, p []byte) int {
	if at := unsafe.Pointer(unsafe.SliceData(mem)); len(p) == 2 && uintptr(at)&1 == 0 {
		*(*uint16)(at) = uint16(p[0]) | uint16(p[1])<<8
		return 2
	}
	return copy(mem, p)
}

// Seclude keeps a mapping of n bytes at p out of core dumps, out of forked
// children and out of huge pages. khugepaged would copy the pages: kernels with
// CONFIG_READ_ONLY_THP_FOR_FS and without commit dd085fe9a8eb let it have files
// on anonymous inodes, which secret memory's are.
func Seclude(p unsafe.Pointer, n uint64) error { return seclude(p, n, true) }

// seclude is Seclude for pages that khugepaged might take. Others are to have huge pages
// where the kernel has them for those that ask.
func seclude(p unsafe.Pointer, n uint64, pages bool) error {
	huge := uintptr(unix.MADV_HUGEPAGE)
	if pages {
		huge = unix.MADV_NOHUGEPAGE
	}
	for _, advice := range []uintptr{unix.MADV_DONTDUMP, unix.MADV_DONTFORK, huge} {
		_, _, errno := unix.RawSyscall(unix.SYS_MADVISE, uintptr(p), uintptr(n), advice)
		// A kernel without huge pages doesn't know the last one.
		if errno != 0 && !(advice == huge && errno == unix.EINVAL) {
			return fmt.Errorf("madvise %d of %d bytes of guest memory: %w", advice, n, errno)
		}
	}
	return nil
}

// MapSecret maps size bytes of secret memory, secluded, for other uses than guest
// RAM. It does not raise RLIMIT_MEMLOCK: its error wraps EAGAIN if the limit is too
// low and this kernel checks it in mmap. unix.Munmap frees the memory.
func MapSecret(size uint64) ([]byte, error) {
	f, err := openSecret(size)
	if err != nil {
		return nil, err
	}
	defer unix.Close(f.fd) // the mapping keeps the file
	return MapSecluded(f.fd, size)
}

// MapSecluded maps the first size bytes of a file, shared and secluded. unix.Munmap
// unmaps them.
func MapSecluded(fd int, size uint64) ([]byte, error) {
	mem, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	if err := Seclude(unsafe.Pointer(unsafe.SliceData(mem)), size); err != nil {
		return nil, errors.Join(err, unix.Munmap(mem))
	}
	return mem, nil
}

// Populated returns the bytes of RAM that are populated, from mincore(2). It does
// not count pages that were swapped out.
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
