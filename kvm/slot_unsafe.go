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

	// With MemGuestMemfd in Flags, the guest's pages are those of this
	// VM's guest_memfd from MemfdOffset on, and Memory is where the same
	// bytes are mapped, for KVM's own accesses.
	Memfd       int
	MemfdOffset uint64
}

// SetSlot creates, changes or deletes a memory slot: with
// KVM_SET_USER_MEMORY_REGION (api.rst 4.35), or where it has MemGuestMemfd with
// KVM_SET_USER_MEMORY_REGION2 (api.rst 4.140). The call succeeds
// even if KVM can't use the memory, which shows at the guest's first access.
func (v *VM) SetSlot(s Slot) error {
	r := userspaceMemoryRegion{
		slot: s.Number, flags: s.Flags, guestPhysAddr: s.GPA,
		memorySize: s.Size, userspaceAddr: uint64(uintptr(s.Memory)),
	}
	call, err := "KVM_SET_USER_MEMORY_REGION", error(nil)
	if s.Flags&MemGuestMemfd == 0 {
		err = ioctlStruct(v.fd.n, kvmSetUserMemory, &r)
	} else {
		call += "2"
		err = ioctlStruct(v.fd.n, kvmSetUserMemory2, &userspaceMemoryRegion2{
			userspaceMemoryRegion: r, guestMemfd: uint32(s.Memfd), guestMemfdOffset: s.MemfdOffset,
		})
	}
	if err != nil {
		return fmt.Errorf("%s: slot %d, guest [0x%x, 0x%x): %w", call, s.Number, s.GPA, s.GPA+s.Size, err)
	}
	return nil
}
