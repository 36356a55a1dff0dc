package audit

import (
	"fmt"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// wholePages rounds a file's size up to whole pages. A mapping reads zeros behind
// the file's end.
func wholePages(size int64) int64 { return (size + pageSize - 1) &^ (pageSize - 1) }

// eachResident calls use with the pages of a mapped file that are in memory, in
// runs. mem is whole pages, vec has room for a byte for each.
func eachResident(mem, vec []byte, use func([]byte) error) error {
	vec = vec[:len(mem)/pageSize]
	if err := mincore(mem, vec); err != nil {
		return fmt.Errorf("mincore: %w", err)
	}
	for i := 0; i < len(vec); {
		n := i
		for n < len(vec) && vec[n]&1 == vec[i]&1 {
			n++
		}
		if vec[i]&1 != 0 {
			if err := use(mem[i*pageSize : n*pageSize]); err != nil {
				return err
			}
		}
		i = n
	}
	return nil
}

// guarded calls use, which reads a mapping of another process's file. If a page
// raises SIGBUS, the error is EFAULT.
func guarded(use func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch e := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // a fault: runtime.Error with its address
			err = fmt.Errorf("read of mapped memory at %#x: %w", e.Addr(), unix.EFAULT)
		default:
			panic(e)
		}
	}()
	use()
	return nil
}
