package attach

import (
	"unsafe"

	"offmap/kvm"
	"offmap/memory"
)

// openView opens the bridge's view of all of ram.
func openView(ram *memory.RAM) (*Bridge, error) {
	return OpenBridge("", ram.FD(), ram.Pointer(), ram.Layout().Size())
}

// slots makes a slot of each region, with backend offset 0 at base.
func slots(l memory.Layout, base unsafe.Pointer) []kvm.Slot {
	var s []kvm.Slot
	for i, r := range l {
		s = append(s, kvm.Slot{
			Number: uint32(i), GPA: uint64(r.Start), Size: r.Size,
			Memory: unsafe.Add(base, r.Offset),
		})
	}
	return s
}
