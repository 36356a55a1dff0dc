package kvm

import (
	"fmt"
	"unsafe"
)

// Slot is a memory slot: Size bytes of this process's memory at Memory (the
// HVA) appear to the guest at GPA. All three are page-aligned. Size 0 deletes
// the slot. Memory must stay mapped for as long as the slot exists; it is not
// Go memory.
type Slot struct {
	Number uint32
	Flags  uint32
	GPA    uint64
	Size   uint64
	Memory unsafe.Pointer
}

// SetSlot creates, changes or deletes a memory slot with
// KVM_SET_USER_MEMORY_REGION (api.rst 4.35). That the call succeeds says
// nothing of whether KVM can use the memory: it looks at the first access.
func (v *VM) SetSlot(s Slot) error {
	r := userspaceMemoryRegion{
		slot: s.Number, flags: s.Flags, guestPhysAddr: s.GPA,
		memorySize: s.Size, userspaceAddr: uint64(uintptr(s.Memory)),
	}
	if err := ioctlStruct(v.fd.n, kvmSetUserMemory, &r); err != nil {
		return s.wrap("KVM_SET_USER_MEMORY_REGION", err)
	}
	return nil
}

// SetSlotMemfd is SetSlot with a guest_memfd behind the slot, through
// KVM_SET_USER_MEMORY_REGION2 (api.rst 4.140; CapUserMemory2).
func (v *VM) SetSlotMemfd(s Slot, memfd int, offset uint64) error {
	r := userspaceMemoryRegion2{
		userspaceMemoryRegion: userspaceMemoryRegion{
			slot: s.Number, flags: s.Flags | MemGuestMemfd, guestPhysAddr: s.GPA,
			memorySize: s.Size, userspaceAddr: uint64(uintptr(s.Memory)),
		},
		guestMemfd: uint32(memfd), guestMemfdOffset: offset,
	}
	if err := ioctlStruct(v.fd.n, kvmSetUserMemory2, &r); err != nil {
		return s.wrap("KVM_SET_USER_MEMORY_REGION2", err)
	}
	return nil
}

func (s Slot) wrap(call string, err error) error {
	return fmt.Errorf("%s: slot %d, guest [0x%x, 0x%x): %w", call, s.Number, s.GPA, s.GPA+s.Size, err)
}
