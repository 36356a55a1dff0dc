package vmm

import (
	"testing"

	"offmap/kvm"
)

func find(entries []kvm.CPUIDEntry, function, index uint32) (kvm.CPUIDEntry, bool) {
	for _, e := range entries {
		if e.Function == function && e.Index == index {
			return e, true
		}
	}
	return kvm.CPUIDEntry{}, false
}

// TestGuestCPUIDHidden holds that a guest with hidden RAM isn't told of
// anything through which KVM would reach into it.
func TestGuestCPUIDHidden(t *testing.T) {
	supported := []kvm.CPUIDEntry{
		{Function: 1, ECX: leaf1VMX | 1<<3},
		{Function: 0xb, EBX: 64}, {Function: 0x1f, EBX: 64},
		{Function: kvmSignature, EAX: kvmFeatures, EBX: 0x4b4d564b},
		{Function: kvmFeatures, EAX: 0x01007afb, EDX: 1},
		{Function: 0x40000003, EAX: ^uint32(0)},
		{Function: 0x40000100, EBX: 0x566e6558},
		{Function: extFeatures, ECX: extSVM | 1},
		{Function: svmFeatures, EBX: 8},
	}
	hidden := guestCPUID(supported, 1, 2, true)
	if e, _ := find(hidden, 1, 0); e.ECX&leaf1VMX != 0 || e.ECX&(1<<3) == 0 {
		t.Errorf("leaf 1: ECX %#x, want no VMX and the rest", e.ECX)
	}
	if e, _ := find(hidden, extFeatures, 0); e.ECX != 1 {
		t.Errorf("leaf 0x80000001: ECX %#x, want no SVM and the rest", e.ECX)
	}
	if e, ok := find(hidden, kvmFeatures, 0); !ok || e.EAX != 0 || e.EDX != 0 {
		t.Errorf("KVM's features: %+v", e)
	}
	for _, leaf := range []uint32{0x40000003, 0x40000100, svmFeatures} {
		if e, ok := find(hidden, leaf, 0); ok {
			t.Errorf("leaf %#x is there: %+v", leaf, e)
		}
	}
	open := guestCPUID(supported, 1, 2, false)
	if e, _ := find(open, kvmFeatures, 0); e.EAX != 0x01007afb {
		t.Errorf("a guest in ordinary memory lost KVM's features: %#x", e.EAX)
	}
	if supported[0].ECX != leaf1VMX|1<<3 {
		t.Error("the host's entries were changed")
	}
}

// TestGuestCPUIDTopology holds that each vCPU finds its number.
func TestGuestCPUIDTopology(t *testing.T) {
	supported := []kvm.CPUIDEntry{{Function: 1, EBX: 0xff_10_08_00}, {Function: extSizes, ECX: 0xffff}, {Function: extAPIC}}
	for _, c := range []struct{ id, cpus, shift int }{{0, 1, 0}, {1, 2, 1}, {2, 3, 2}, {63, 64, 6}} {
		got := guestCPUID(supported, c.id, c.cpus, false)
		e, _ := find(got, 1, 0)
		if want := uint32(c.id<<24 | c.cpus<<16 | 0x0800); e.EBX != want || (e.EDX&leaf1HTT != 0) != (c.cpus > 1) {
			t.Errorf("vCPU %d of %d: leaf 1 EBX %#x, EDX %#x; want EBX %#x", c.id, c.cpus, e.EBX, e.EDX, want)
		}
		e, _ = find(got, 0xb, 1)
		if e.EAX != uint32(c.shift) || e.EBX != uint32(c.cpus) || e.EDX != uint32(c.id) || e.ECX != 1|levelCore<<8 {
			t.Errorf("vCPU %d of %d: leaf 0xb.1 %+v", c.id, c.cpus, e)
		}
		if e, _ = find(got, extAPIC, 0); e.EAX != uint32(c.id) {
			t.Errorf("vCPU %d: leaf 0x8000001e EAX %d", c.id, e.EAX)
		}
	}
}
