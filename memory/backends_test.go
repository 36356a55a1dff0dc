package memory_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"offmap/memory"
	"offmap/memory/memtest"
)

// pages are the sizes in which the backends' memory comes, in bytes; 0 for
// memory that is there from the start. GuestMemfd takes a VM: package attach
// tests it.
var pages = map[memory.Backend]uint64{
	memory.Anon: memory.PageSize, memory.Memfd: memory.PageSize, memory.Hugetlb: 2 << 20,
	memory.Reserved: 0, memory.Removed: 0, memory.Secret: memory.PageSize,
}

// TestBackends has every backend pass the conformance suite.
func TestBackends(t *testing.T) {
	for _, b := range memory.Backends() {
		t.Run(string(b), func(t *testing.T) {
			page, ok := pages[b]
			if !ok {
				t.Skip("skipped: tested in package attach")
			}
			if b == memory.Hugetlb {
				memtest.HugePages(t, page)
			}
			leaks := memtest.Leaks(t)
			r, err := memory.New(b, memtest.Layout(t))
			memtest.NeedBackend(t, err)
			checkDumped(t, r)
			memtest.Guest(t, r, r.Populated, page)
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if err := r.Close(); err != nil {
				t.Errorf("second Close: %v", err)
			}
			leaks()
		})
	}
}

// TestHugetlbRefused holds that RAM which was given can be touched, all of it,
// and that what there are no pages for is refused, with a fix that is enough
// and no more.
func TestHugetlbRefused(t *testing.T) {
	const size = 4 << 20
	memtest.HugePages(t, size)
	first, err := memory.New(memory.Hugetlb, oneRegion(t, size))
	memtest.NeedBackend(t, err)
	defer first.Close()
	h, err := memory.ReadHugePages()
	if err != nil {
		t.Fatal(err)
	}
	refused := func(size, want uint64) {
		t.Helper()
		r, err := memory.New(memory.Hugetlb, oneRegion(t, size))
		if err == nil {
			r.Close()
		}
		if fix := fmt.Sprintf("=%d`", want); !errors.Is(err, memory.ErrUnavailable) || !strings.Contains(err.Error(), fix) {
			t.Errorf("%d bytes with %+v: %v, want ErrUnavailable and ...%s", size, h, err, fix)
		}
	}
	refused(size, h.Total+2) // the pages there are have been promised
	if _, err := first.WriteAt(make([]byte, size), 0); err != nil {
		t.Errorf("RAM that was given: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	refused(size+4096, h.Total+1)
}

func oneRegion(t testing.TB, size uint64) memory.Layout {
	t.Helper()
	l, err := memory.LayoutOf(memory.Region{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// checkDumped looks for the flags that keep hidden guest RAM out of core dumps
// and children (dd and dc in smaps, Documentation/filesystems/proc.rst).
// Ordinary RAM, which an audit attacks for comparison, must not have them.
func checkDumped(t *testing.T, r *memory.RAM) {
	t.Helper()
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := bytes.Cut(smaps, fmt.Appendf(nil, "\n%x-", r.Pointer()))
	if !ok {
		t.Fatalf("no mapping starts at %p", r.Pointer())
	}
	_, flags, _ := bytes.Cut(after, []byte("VmFlags:"))
	line, _, _ := bytes.Cut(flags, []byte("\n"))
	for _, f := range []string{"dd", "dc"} {
		if slices.Contains(strings.Fields(string(line)), f) == r.Backend().Exposed() {
			t.Errorf("exposed is %v, and VmFlags are %q", r.Backend().Exposed(), line)
		}
	}
}
