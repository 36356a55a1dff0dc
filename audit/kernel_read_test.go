package audit

import (
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

func TestKernelRead(t *testing.T) {
	found := testFindsAll(t, kernelRead, asExposed)
	if f, ok := found[memory.Secret]; ok && f.Errno != unix.EFAULT {
		t.Errorf("secret memory: errno %v, want EFAULT: it isn't in the direct map", f.Errno)
	}
}
