package vmm

import (
	"testing"

	"offmap/kvm"
)

const (
	leaf1VMX    = 1 << 5
	extSVM      = 1 << 2
	svmFeatures = 0x8000000a
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
		{Function: 1, ECX: leaf1VMX | 1},
		{Function: 0xb, EBX: 64}, {Function: 0x1f, EBX: 64},
		{Function: kvmSignature, EAX: kvmFeatures, EBX: 0x4b4d564b},
		{Function: kvmFeatures, EAX: 0x01007afb, EDX: 1},
		{Function: 0x40000003, EAX: ^uint32(0)},
		{Function: 0x40000100, EBX: 0x566e6558},
		{Function: extFeatures, ECX: extSVM | 1},
		{Function: svmFeatures, EBX: 8},
	}
	hidden := guestCPUID(supported, 1, 2, true)
	if e, _ := find(hidden, 1, 0); e.ECX&leaf1VMX != 0 || e.ECX&1 == 0 {
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
	if supported[0].ECX != leaf1VMX|1 {
		t.Error("the host's entries were changed")
	}
}

// TestGuestCPUIDAllowed holds that a guest with hidden RAM isn't told of what nobody has
// looked at: every bit of every leaf is offered, and it gets those of allowedCPUID.
func TestGuestCPUIDAllowed(t *testing.T) {
	var supported []kvm.CPUIDEntry
	for _, first := range []uint32{0, kvmSignature, 0x80000000, 0xc0000000} {
		for leaf := range uint32(0x40) {
			for index := range uint32(20) {
				supported = append(supported, kvm.CPUIDEntry{Function: first + leaf, Index: index, EAX: all, EBX: all, ECX: all, EDX: all})
			}
		}
	}
	got := guestCPUID(supported, 0, 1, true)
	closed := []struct {
		leaf, index   uint32
		ecx, edx, ebx uint32
	}{
		{1, 0, only(2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 18), only(10, 18, 20, 21, 22, 29, 30, 31), 0}, // MONITOR, DS, VMX, SMX
		{7, 0, only(5, 7, 13, 23, 24, 29, 30, 31), only(5, 15, 16, 18, 19, 20, 22, 24, 25, 30), only(2, 4, 11, 12, 14, 15, 25)},
		{xsaveLeaf, 1, all, all, 0},                                        // supervisor states
		{extFeatures, 0, only(2, 10, 12, 15, 23, 24, 28, 29), only(10), 0}, // SVM, IBS, SKINIT, LWP, counters, MWAITX
	}
	for _, c := range closed {
		e, ok := find(got, c.leaf, c.index)
		if !ok || e.ECX&c.ecx != 0 || e.EDX&c.edx != 0 || e.EBX&c.ebx != 0 {
			t.Errorf("leaf %#x, %d: %v, %+v", c.leaf, c.index, ok, e)
		}
	}
	for _, leaf := range []uint32{0x5, 0xa, 0x10, 0x12, 0x14, 0x1a, 0x1c, 0x1d, 0x1e, 0x23, 0x24, svmFeatures, 0x8000001b, 0x8000001c, 0x8000001f, 0x80000022, 0xc0000001} {
		if e, ok := find(got, leaf, 0); ok {
			t.Errorf("leaf %#x is there: %+v", leaf, e)
		}
	}
	if _, ok := find(got, 7, 3); ok {
		t.Error("leaf 7 has a subleaf 3")
	}
}

// TestGuestCPUIDStates holds that the states of XSAVE that are left out are so everywhere.
func TestGuestCPUIDStates(t *testing.T) {
	supported := []kvm.CPUIDEntry{
		{Function: xsaveLeaf, Index: 0, EAX: 0x602e7, EBX: 11008, ECX: 11008},
		{Function: xsaveLeaf, Index: 2, EAX: 256, EBX: 576},
		{Function: xsaveLeaf, Index: 9, EAX: 8, EBX: 2688},
		{Function: xsaveLeaf, Index: 17, EAX: 64, EBX: 2752},
		{Function: xsaveLeaf, Index: 18, EAX: 8192, EBX: 2816},
	}
	got := guestCPUID(supported, 0, 1, true)
	if e, _ := find(got, xsaveLeaf, 0); e.EAX != 0x2e7 || e.ECX != 2696 {
		t.Errorf("states %#x in %d bytes, want 0x2e7 in 2696", e.EAX, e.ECX)
	}
	if _, ok := find(got, xsaveLeaf, 18); ok {
		t.Error("AMX's tiles are there")
	}
	if e, _ := find(guestCPUID(supported, 0, 1, false), xsaveLeaf, 0); e.EAX != 0x602e7 || e.ECX != 11008 {
		t.Errorf("a guest in ordinary memory: %+v", e)
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
