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

// slots makes a slot of each region of ram, which is mapped at base.
func slots(ram *memory.RAM, base unsafe.Pointer) []kvm.Slot {
	var s []kvm.Slot
	for i, r := range ram.Layout() {
		slot := kvm.Slot{
			Number: uint32(i), GPA: uint64(r.Start), Size: r.Size,
			Memory: unsafe.Add(base, r.Offset),
		}
		if ram.Backend() == memory.GuestMemfd {
			slot.Flags, slot.Memfd, slot.MemfdOffset = kvm.MemGuestMemfd, ram.FD(), r.Offset
		}
		s = append(s, slot)
	}
	return s
}
