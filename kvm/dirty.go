package kvm

import "fmt"

// kvmGetDirtyLog is KVM_GET_DIRTY_LOG (api.rst 4.8).
const kvmGetDirtyLog = 0x4010ae42

// dirtyLog is struct kvm_dirty_log.
type dirtyLog struct {
	slot   uint32
	_      uint32
	bitmap *uint64
}

// DirtyLog returns which of a slot's pages the guest has written since the
// last call, as a bitmap with the slot's first page in bit 0, and write-protects
// them again (api.rst 4.8). The slot has MemLogDirtyPages; pages is its size in
// pages of 4 KiB.
func (v *VM) DirtyLog(slot uint32, pages uint64) ([]uint64, error) {
	bits := make([]uint64, max(1, (pages+63)/64))
	l := dirtyLog{slot: slot, bitmap: &bits[0]}
	if err := ioctlStruct(v.fd.n, kvmGetDirtyLog, &l); err != nil {
		return nil, fmt.Errorf("KVM_GET_DIRTY_LOG of slot %d: %w", slot, err)
	}
	return bits, nil
}
