package limits

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

// TestDeviceABI holds requests and structures against the kernel's own headers,
// at compile time.
func TestDeviceABI(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler, so the ABI is not compared with the kernel's headers")
	}
	src := `#include <stddef.h>
#include <linux/io_uring.h>
#include <linux/udmabuf.h>
#include <linux/vhost.h>
struct table { struct vhost_memory m; struct vhost_memory_region r; };
`
	for c, want := range map[string]uintptr{
		"IORING_REGISTER_BUFFERS":                            registerBuffers,
		"sizeof(struct io_uring_params)":                     ringParams,
		"UDMABUF_CREATE":                                     udmabufRequest,
		"UDMABUF_FLAGS_CLOEXEC":                              udmabufCloexec,
		"sizeof(struct udmabuf_create)":                      unsafe.Sizeof(udmabufArg{}),
		"offsetof(struct udmabuf_create, size)":              unsafe.Offsetof(udmabufArg{}.size),
		"VHOST_SET_OWNER":                                    vhostSetOwner,
		"VHOST_SET_FEATURES":                                 vhostSetFeatures,
		"VHOST_SET_MEM_TABLE":                                vhostSetMemTable,
		"VHOST_SET_VRING_NUM":                                vhostSetVringNum,
		"VHOST_SET_VRING_ADDR":                               vhostSetVringAddr,
		"VHOST_SET_VRING_BASE":                               vhostSetVringBase,
		"VHOST_VSOCK_SET_GUEST_CID":                          vhostVsockSetCID,
		"VHOST_VSOCK_SET_RUNNING":                            vhostVsockRun,
		"sizeof(struct vhost_vring_state)":                   unsafe.Sizeof(vringState{}),
		"sizeof(struct vhost_vring_addr)":                    unsafe.Sizeof(vringAddr{}),
		"offsetof(struct vhost_vring_addr, used_user_addr)":  unsafe.Offsetof(vringAddr{}.used),
		"offsetof(struct vhost_vring_addr, avail_user_addr)": unsafe.Offsetof(vringAddr{}.avail),
		"sizeof(struct table)":                               unsafe.Sizeof(vhostTable{}),
		"offsetof(struct table, r.memory_size)":              unsafe.Offsetof(vhostTable{}.size),
		"offsetof(struct table, r.userspace_addr)":           unsafe.Offsetof(vhostTable{}.user),
	} {
		src += fmt.Sprintf("_Static_assert(%s == %#x, \"%s\");\n", c, want, c)
	}
	cmd := exec.Command(cc, "-x", "c", "-c", "-o", filepath.Join(t.TempDir(), "abi.o"), "-")
	cmd.Stdin = strings.NewReader(src)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
