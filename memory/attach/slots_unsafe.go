package attach

import (
	"unsafe"

	"offmap/kvm"
	"offmap/memory"
)

// slotsOf makes a slot of each region of ram, which is mapped at base.
func slotsOf(ram *memory.RAM, base unsafe.Pointer) []kvm.Slot {
	var slots []kvm.Slot
	for i, r := range ram.Layout() {
		slot := kvm.Slot{
			Number: uint32(i), GPA: uint64(r.Start), Size: r.Size,
			Memory: unsafe.Add(base, r.Offset),
		}
		if ram.Backend() == memory.GuestMemfd {
			slot.Flags, slot.Memfd, slot.MemfdOffset = kvm.MemGuestMemfd, ram.FD(), r.Offset
		}
		slots = append(slots, slot)
	}
	return slots
}
