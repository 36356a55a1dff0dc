package audit

import (
	"encoding/binary"
	"slices"
	"testing"

	"offmap/internal/abitest"
)

func TestVhost(t *testing.T) {
	testFindsAll(t, vhost, toOwner)
}

func TestVhostABI(t *testing.T) {
	const include = "#include <linux/vhost.h>\n#include <linux/virtio_ring.h>\n#include <linux/virtio_vsock.h>\n"
	abitest.Compare(t, include, []abitest.Entry{
		{C: "VHOST_SET_OWNER", Want: vhostSetOwner},
		{C: "VHOST_SET_FEATURES", Want: vhostSetFeatures},
		{C: "VHOST_SET_MEM_TABLE", Want: vhostSetMemTable},
		{C: "VHOST_SET_VRING_NUM", Want: vhostSetVringNum},
		{C: "VHOST_SET_VRING_ADDR", Want: vhostSetVringAddr},
		{C: "VHOST_SET_VRING_BASE", Want: vhostSetVringBase},
		{C: "VHOST_SET_VRING_KICK", Want: vhostSetVringKick},
		{C: "VHOST_VSOCK_SET_GUEST_CID", Want: vsockSetGuestCID},
		{C: "VHOST_VSOCK_SET_RUNNING", Want: vsockSetRunning},
		{C: "sizeof(struct virtio_vsock_hdr)", Want: uint64(binary.Size(vsockMessage{}))},
		{C: "sizeof(struct vring_desc)", Want: uint64(binary.Size(virtqDesc{}))},
	})
}

func TestRuns(t *testing.T) {
	const p = pageSize
	for _, tt := range []struct {
		pages []uint64
		want  []area
	}{
		{nil, nil},
		{[]uint64{p}, []area{{Start: p, End: 2 * p}}},
		{[]uint64{0, p, 3 * p}, []area{{Start: 0, End: 2 * p}, {Start: 3 * p, End: 4 * p}}},
		{[]uint64{0, p, 2 * p, 3 * p}, []area{{Start: 0, End: 3 * p}, {Start: 3 * p, End: 4 * p}}},
	} {
		if got := slices.Collect(runs(tt.pages, 3*p)); !slices.Equal(got, tt.want) {
			t.Errorf("%#x: %+x, want %+x", tt.pages, got, tt.want)
		}
	}
}
