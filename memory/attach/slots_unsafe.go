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

// slots makes a slot of each region, over the view if there is one and over
// the RAM's own mapping otherwise.
func slots(ram *memory.RAM, view *Bridge) []kvm.Slot {
	base := ram.Pointer()
	if view != nil {
		base = view.Pointer()
	}
	var s []kvm.Slot
	for i, r := range ram.Layout() {
		s = append(s, kvm.Slot{
			Number: uint32(i), GPA: uint64(r.Start), Size: r.Size,
			Memory: unsafe.Add(base, r.Offset),
		})
	}
	return s
}
