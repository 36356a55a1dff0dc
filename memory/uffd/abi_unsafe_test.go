package uffd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// TestABI holds every request number, size and offset against the kernel's own
// headers, through a C program. OFFMAP_UAPI names an include directory to use
// instead of the system's.
func TestABI(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler, so the ABI is not compared with the kernel's headers")
	}
	var (
		api apiArg
		rng rangeArg
		reg registerArg
		m   mapArg
		msg message
	)
	entries := []struct {
		c    string
		want uint64
	}{
		{"UFFD_API", apiVersion},
		{"USERFAULTFD_IOC_NEW", ioctlNew},
		{"UFFDIO_API", ioctlAPI},
		{"UFFDIO_REGISTER", ioctlRegister},
		{"UFFDIO_WAKE", ioctlWake},
		{"UFFDIO_ZEROPAGE", ioctlZeropage},
		{"UFFDIO_CONTINUE", ioctlContinue},
		{"_UFFDIO_WAKE", numWake},
		{"_UFFDIO_ZEROPAGE", numZeropage},
		{"_UFFDIO_CONTINUE", numContinue},
		{"UFFD_FEATURE_MISSING_SHMEM", featureMissingShmem},
		{"UFFD_FEATURE_MINOR_SHMEM", featureMinorShmem},
		{"UFFDIO_REGISTER_MODE_MISSING", modeMissing},
		{"UFFDIO_REGISTER_MODE_MINOR", modeMinor},
		{"UFFD_EVENT_PAGEFAULT", eventPagefault},
		{"sizeof(struct uffdio_api)", uint64(unsafe.Sizeof(api))},
		{"offsetof(struct uffdio_api, features)", uint64(unsafe.Offsetof(api.features))},
		{"sizeof(struct uffdio_range)", uint64(unsafe.Sizeof(rng))},
		{"sizeof(struct uffdio_register)", uint64(unsafe.Sizeof(reg))},
		{"offsetof(struct uffdio_register, mode)", uint64(unsafe.Offsetof(reg.mode))},
		{"offsetof(struct uffdio_register, ioctls)", uint64(unsafe.Offsetof(reg.ioctls))},
		{"sizeof(struct uffdio_continue)", uint64(unsafe.Sizeof(m))},
		{"offsetof(struct uffdio_continue, mode)", uint64(unsafe.Offsetof(m.mode))},
		{"offsetof(struct uffdio_continue, mapped)", uint64(unsafe.Offsetof(m.mapped))},
		{"sizeof(struct uffdio_zeropage)", uint64(unsafe.Sizeof(m))},
		{"offsetof(struct uffdio_zeropage, mode)", uint64(unsafe.Offsetof(m.mode))},
		{"offsetof(struct uffdio_zeropage, zeropage)", uint64(unsafe.Offsetof(m.mapped))},
		{"sizeof(struct uffd_msg)", messageSize},
		{"sizeof(struct uffd_msg)", uint64(unsafe.Sizeof(msg))},
		{"offsetof(struct uffd_msg, event)", uint64(unsafe.Offsetof(msg.event))},
		{"offsetof(struct uffd_msg, arg.pagefault.flags)", uint64(unsafe.Offsetof(msg.flags))},
		{"offsetof(struct uffd_msg, arg.pagefault.address)", uint64(unsafe.Offsetof(msg.address))},
	}
	var src strings.Builder
	src.WriteString("#include <linux/ioctl.h>\n#include <linux/userfaultfd.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n")
	for _, e := range entries {
		fmt.Fprintf(&src, "printf(\"%%llu\\n\", (unsigned long long)(%s));\n", e.c)
	}
	src.WriteString("return 0; }\n")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "abi.c"), []byte(src.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-o", filepath.Join(dir, "abi"), filepath.Join(dir, "abi.c")}
	if uapi := os.Getenv("OFFMAP_UAPI"); uapi != "" {
		args = append([]string{"-I" + uapi}, args...)
	}
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "abi")).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	if len(lines) != len(entries) {
		t.Fatalf("%d answers to %d questions", len(lines), len(entries))
	}
	for i, e := range entries {
		if lines[i] != fmt.Sprint(e.want) {
			t.Errorf("%s is %s in the kernel's headers, %d here", e.c, lines[i], e.want)
		}
	}
}
