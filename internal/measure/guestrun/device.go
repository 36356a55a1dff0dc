package guestrun

import "offmap/vmm/virtio"

// Device is a device that offmap run was asked for, and what the guest did with it.
type Device struct {
	Kind DeviceKind `json:"kind"`
	// Name is the guest's name for it: of a disk, the block device that Linux makes
	// of it; of a share, its tag.
	Name string `json:"name"`
	// File is the host's image or directory.
	File     string `json:"file,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Overlay  bool   `json:"overlay,omitempty"`
	Cache    string `json:"cache,omitempty"`
	virtio.Stats
}

// DeviceKind is the kind of a Device.
type DeviceKind string

// The kinds.
const (
	Disk    DeviceKind = "disk"
	Share   DeviceKind = "share"
	Console DeviceKind = "console"
	Entropy DeviceKind = "entropy"
)
