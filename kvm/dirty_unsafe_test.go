package kvm

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// TestDirtyABI holds the request, its structure and the flag against the
// kernel's own headers, at compile time.
func TestDirtyABI(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler, so the ABI is not compared with the kernel's headers")
	}
	var l dirtyLog
	src := "#include <stddef.h>\n#include <linux/kvm.h>\n"
	for c, want := range map[string]uintptr{
		"KVM_GET_DIRTY_LOG":                            kvmGetDirtyLog,
		"KVM_MEM_LOG_DIRTY_PAGES":                      uintptr(MemLogDirtyPages),
		"sizeof(struct kvm_dirty_log)":                 unsafe.Sizeof(l),
		"offsetof(struct kvm_dirty_log, dirty_bitmap)": unsafe.Offsetof(l.bitmap),
	} {
		src += fmt.Sprintf("_Static_assert(%s == %#x, \"%s\");\n", c, want, c)
	}
	cmd := exec.Command(cc, "-x", "c", "-c", "-o", filepath.Join(t.TempDir(), "dirty.o"), "-")
	cmd.Stdin = strings.NewReader(src)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
