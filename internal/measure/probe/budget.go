package probe

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sort"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// budget is a small area of secret memory with which to find out how many bytes the
// kernel has charged to this user.
//
// No file shows that figure. Since mainline 97d34aa65c29 the kernel refuses the
// first touch of a secret page if the user's pages, over all processes, would then
// exceed the RLIMIT_MEMLOCK of the process that touches it. The lowest soft limit
// with which a touch works therefore tells the figure, to the page. The touch is a
// read(2) into the page, which fails where a store would raise SIGBUS.
type budget struct {
	zero int
	mem  []byte
	own  uint64 // pages that we have been charged for
	lim  unix.Rlimit
}

const budgetPages = 64 // more than the steps of a search

func openBudget() (*budget, error) {
	b := &budget{zero: -1}
	if err := b.open(); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *budget) open() (err error) {
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &b.lim); err != nil {
		return fmt.Errorf("getrlimit RLIMIT_MEMLOCK: %w", err)
	}
	if b.mem, err = memory.MapSecret(budgetPages * memory.PageSize); err != nil {
		return err
	}
	if b.zero, err = unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return &os.PathError{Op: "open", Path: "/dev/zero", Err: err}
	}
	return nil
}

func (b *budget) close() {
	if b.mem != nil {
		unix.Munmap(b.mem)
	}
	if b.zero >= 0 {
		unix.Close(b.zero)
	}
}

// touch reports whether another page can be had under a soft limit of that
// many bytes.
func (b *budget) touch(limit uint64) (bool, error) {
	low := unix.Rlimit{Cur: min(limit, b.lim.Max), Max: b.lim.Max}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &low); err != nil {
		return false, fmt.Errorf("setrlimit RLIMIT_MEMLOCK to %d: %w", low.Cur, err)
	}
	at := b.own * memory.PageSize
	_, refused := unix.Read(b.zero, b.mem[at:at+memory.PageSize])
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &b.lim); err != nil {
		return false, fmt.Errorf("setrlimit RLIMIT_MEMLOCK to %d: %w", b.lim.Cur, err)
	}
	if refused == nil {
		b.own++
	}
	return refused == nil, nil
}

// charged returns the bytes of locked memory that are charged to this user,
// all processes together, or with atTouch false that this kernel counts each
// process by itself, when it maps. most is where the search ends: MaxUint64
// stands for that much or more.
func charged(most uint64) (bytes uint64, atTouch bool, err error) {
	b, err := openBudget()
	if errors.Is(err, unix.EAGAIN) { // mmap's word for past the limit
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	defer b.close()
	had, err := b.touch(0)
	if err != nil || had {
		return 0, false, err
	}
	var failed error
	pages := sort.Search(int(most/memory.PageSize), func(others int) bool {
		ok, err := b.touch((uint64(others) + b.own + 1) * memory.PageSize)
		if err != nil {
			failed = err
		}
		return ok
	})
	if failed == nil && uint64(pages) == most/memory.PageSize {
		return math.MaxUint64, true, nil
	}
	return uint64(pages) * memory.PageSize, true, failed
}
