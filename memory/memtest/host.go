package memtest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// NeedBackend skips the test if err says that this host lacks the backend, and
// fails it at any other error.
func NeedBackend(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, memory.ErrUnavailable) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// HugePages makes room for size bytes of huge pages for the time of the test, if the
// test may. Only one test of all processes has them at a time.
func HugePages(t testing.TB, size uint64) {
	t.Helper()
	f, err := os.OpenFile("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", os.O_RDWR, 0)
	if err != nil {
		t.Logf("huge pages: %v", err)
		return // the test uses what is free now
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	had, err := memory.ReadHugePages()
	if err != nil {
		t.Fatal(err)
	}
	set := func(n uint64) {
		if _, err := f.WriteAt(fmt.Appendln(nil, n), 0); err != nil {
			t.Errorf("%d huge pages: %v", n, err)
		}
	}
	set(had.Total - had.Available() + (size+1<<21-1)>>21)
	t.Cleanup(func() { set(had.Total) })
}
