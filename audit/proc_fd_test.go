package audit

import (
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// TestProcFD: memfds open again, secret memory doesn't.
func TestProcFD(t *testing.T) {
	found := testFindsAll(t, procFD, expect{memory.Anon: false, memory.Memfd: true, memory.Hugetlb: true, memory.Secret: false})
	if f, ok := found[memory.Secret]; ok && f.Errno != unix.ENXIO {
		t.Errorf("secret memory: errno %v, want ENXIO: it has no open()", f.Errno)
	}
}
