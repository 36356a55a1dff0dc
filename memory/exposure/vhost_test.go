package exposure

import (
	"encoding/binary"
	"slices"
	"testing"
)

func TestVhost(t *testing.T) {
	testFindsAll(t, vhost, toOwner)
}

// TestVhostABI holds sizes and request numbers against linux/vhost.h and
// linux/virtio_vsock.h: _IOW(0xAF, number, size).
func TestVhostABI(t *testing.T) {
	const state, addr, file, table = 8, 40, 8, 8 // structs vhost_vring_state, _addr, _file, vhost_memory
	for name, r := range map[string]struct{ got, number, size uint32 }{
		"VHOST_SET_FEATURES":        {vhostSetFeatures, 0x00, 8},
		"VHOST_SET_MEM_TABLE":       {vhostSetMemTable, 0x03, table},
		"VHOST_SET_VRING_NUM":       {vhostSetVringNum, 0x10, state},
		"VHOST_SET_VRING_ADDR":      {vhostSetVringAddr, 0x11, addr},
		"VHOST_SET_VRING_BASE":      {vhostSetVringBase, 0x12, state},
		"VHOST_SET_VRING_KICK":      {vhostSetVringKick, 0x20, file},
		"VHOST_VSOCK_SET_GUEST_CID": {vsockSetGuestCID, 0x60, 8},
		"VHOST_VSOCK_SET_RUNNING":   {vsockSetRunning, 0x61, 4},
	} {
		if want := 1<<30 | r.size<<16 | 0xaf<<8 | r.number; r.got != want {
			t.Errorf("%s is %#x, want %#x", name, r.got, want)
		}
	}
	if vhostSetOwner != 0xaf<<8|0x01 {
		t.Errorf("VHOST_SET_OWNER is %#x", vhostSetOwner)
	}
	if n := binary.Size(vsockMessage{}); n != 44 {
		t.Errorf("struct virtio_vsock_hdr of %d bytes, want 44", n)
	}
	if n := binary.Size(virtqDesc{}); n != 16 {
		t.Errorf("struct virtq_desc of %d bytes, want 16", n)
	}
}

func TestRuns(t *testing.T) {
	const p = pageSize
	for _, tt := range []struct {
		pages []uint64
		want  []Area
	}{
		{nil, nil},
		{[]uint64{p}, []Area{{Start: p, End: 2 * p}}},
		{[]uint64{0, p, 3 * p}, []Area{{Start: 0, End: 2 * p}, {Start: 3 * p, End: 4 * p}}},
		{[]uint64{0, p, 2 * p, 3 * p}, []Area{{Start: 0, End: 3 * p}, {Start: 3 * p, End: 4 * p}}},
	} {
		if got := slices.Collect(runs(tt.pages, 3*p)); !slices.Equal(got, tt.want) {
			t.Errorf("%#x: %+x, want %+x", tt.pages, got, tt.want)
		}
	}
}
