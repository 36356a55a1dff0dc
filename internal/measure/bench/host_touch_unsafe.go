package bench

import (
	"fmt"
	"runtime/debug"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// touchPages writes a byte to each page of the size bytes at at, divided among a
// number of threads. It uses a plain store, as in C. It returns an error if the
// kernel can't allocate a page.
func touchPages(at unsafe.Pointer, size uint64, threads int) error {
	errs := make([]error, threads)
	share := size / uint64(threads) / memory.PageSize * memory.PageSize
	var wg sync.WaitGroup
	for i := range threads {
		start, n := uint64(i)*share, share
		if i == threads-1 {
			n = size - start
		}
		wg.Go(func() { errs[i] = touchShare(unsafe.Add(at, start), n) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func touchShare(at unsafe.Pointer, size uint64) (err error) {
	var off uint64
	// A page that can't be allocated raises SIGBUS.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch e := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }:
			err = fmt.Errorf("writing to page %d of %d: the kernel allocates no memory (out of memory, or RLIMIT_MEMLOCK): %w",
				off/memory.PageSize, size/memory.PageSize, unix.EFAULT)
		default:
			panic(e)
		}
	}()
	for ; off < size; off += memory.PageSize {
		*(*byte)(unsafe.Add(at, off)) = 1
	}
	return nil
}
