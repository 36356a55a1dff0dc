package limits

import (
	"testing"
	"unsafe"

	"offmap/internal/abitest"
)

// TestDeviceABI holds requests and structures against the kernel's own headers.
func TestDeviceABI(t *testing.T) {
	const include = `
#include <linux/io_uring.h>
#include <linux/udmabuf.h>
#include <linux/vhost.h>
struct table { struct vhost_memory m; struct vhost_memory_region r; };
`
	abitest.Compare(t, include, []abitest.Entry{
		{C: "IORING_REGISTER_BUFFERS", Want: registerBuffers},
		{C: "sizeof(struct io_uring_params)", Want: ringParams},
		{C: "UDMABUF_CREATE", Want: udmabufRequest},
		{C: "UDMABUF_FLAGS_CLOEXEC", Want: udmabufCloexec},
		{C: "sizeof(struct udmabuf_create)", Want: uint64(unsafe.Sizeof(udmabufArg{}))},
		{C: "offsetof(struct udmabuf_create, size)", Want: uint64(unsafe.Offsetof(udmabufArg{}.size))},
		{C: "VHOST_SET_OWNER", Want: vhostSetOwner},
		{C: "VHOST_SET_FEATURES", Want: vhostSetFeatures},
		{C: "VHOST_SET_MEM_TABLE", Want: vhostSetMemTable},
		{C: "VHOST_SET_VRING_NUM", Want: vhostSetVringNum},
		{C: "VHOST_SET_VRING_ADDR", Want: vhostSetVringAddr},
		{C: "VHOST_SET_VRING_BASE", Want: vhostSetVringBase},
		{C: "VHOST_VSOCK_SET_GUEST_CID", Want: vhostVsockSetCID},
		{C: "VHOST_VSOCK_SET_RUNNING", Want: vhostVsockRun},
		{C: "sizeof(struct vhost_vring_state)", Want: uint64(unsafe.Sizeof(vringState{}))},
		{C: "sizeof(struct vhost_vring_addr)", Want: uint64(unsafe.Sizeof(vringAddr{}))},
		{C: "offsetof(struct vhost_vring_addr, used_user_addr)", Want: uint64(unsafe.Offsetof(vringAddr{}.used))},
		{C: "offsetof(struct vhost_vring_addr, avail_user_addr)", Want: uint64(unsafe.Offsetof(vringAddr{}.avail))},
		{C: "sizeof(struct table)", Want: uint64(unsafe.Sizeof(vhostTable{}))},
		{C: "offsetof(struct table, r.memory_size)", Want: uint64(unsafe.Offsetof(vhostTable{}.size))},
		{C: "offsetof(struct table, r.userspace_addr)", Want: uint64(unsafe.Offsetof(vhostTable{}.user))},
	})
}
