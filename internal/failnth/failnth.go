// Package failnth, for tests, has a kernel's allocations of memory fail one after the
// other (Documentation/fault-injection/fault-injection.rst). It takes a kernel with
// CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and CONFIG_FAULT_INJECTION_DEBUG_FS, which
// Debian's kernels don't have: see docs/kernel-trees.md.
package failnth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// Kind says which allocations fail.
type Kind int

// Kinds of allocations. When some of those of pages fail, the kernel logs a call trace.
const (
	Slab Kind = iota
	SlabAndPages
)

// settings have allocations fail that wait for memory. The kernel isn't to log a call
// trace for each.
func (k Kind) settings() map[string]string {
	s := map[string]string{
		"/sys/kernel/debug/failslab/ignore-gfp-wait": "N",
		"/sys/kernel/debug/failslab/verbose":         "0",
	}
	if k == SlabAndPages {
		s["/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait"] = "N"
		s["/sys/kernel/debug/fail_page_alloc/min-order"] = "0"
		s["/sys/kernel/debug/fail_page_alloc/verbose"] = "0"
	}
	return s
}

// Each runs do again and again. The first allocation that the kernel makes for it fails
// in the first run, the second one in the second, and so on, until a run makes too few
// to fail. check is called after each run, when allocations work again, with what do has
// returned. Each returns how many allocations have failed.
//
// do and check are called on one thread. Each skips the test where the kernel can't do that.
func Each(t *testing.T, kind Kind, do func() error, check func(nth int, err error)) (failed int) {
	t.Helper()
	for file, value := range kind.settings() {
		had, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			t.Skipf("NOT TESTED: allocations that fail: %v", err)
		}
		if err == nil {
			err = os.WriteFile(file, []byte(value), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer os.WriteFile(file, had, 0)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the runtime's own allocations may not fail
	runtime.GC()
	f, err := os.OpenFile("/proc/thread-self/fail-nth", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for nth := 1; ; nth++ {
		if _, err := f.WriteAt(strconv.AppendInt(nil, int64(nth), 10), 0); err != nil {
			t.Fatal(err)
		}
		err := do()
		left, readErr := remaining(f)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if _, err := f.WriteAt([]byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		check(nth, err)
		if left > 0 {
			return nth - 1
		}
	}
}

// remaining returns which allocation from now on is to fail; 0: one has failed.
func remaining(f *os.File) (int, error) {
	b := make([]byte, 16)
	n, err := f.ReadAt(b, 0)
	if n == 0 {
		return 0, fmt.Errorf("fail-nth: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(b[:n])))
}
