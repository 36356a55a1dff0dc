package kvm

import (
	"math"
	"strings"
	"testing"
)

// TestDenyMSRs holds that ranges which KVM has no bitmap for are refused before
// any system call, and that others are taken.
func TestDenyMSRs(t *testing.T) {
	for _, count := range []uint32{0, 8*maxMSRBitmap + 1, math.MaxUint32} {
		v := &VM{fd: fd{n: -1}}
		err := v.DenyMSRs(MSRRange{Base: 0x4b564d00, Count: 1}, MSRRange{Base: 0x11, Count: count})
		if err == nil || strings.Contains(err.Error(), "bad file descriptor") {
			t.Errorf("%d registers: %v", count, err)
		}
	}
	sys, err := Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	if has, err := vm.Check(CapMSRFilter); err != nil || has == 0 {
		t.Skipf("SKIPPED: this KVM has no MSR filter: %d, %v", has, err)
	}
	for _, count := range []uint32{1, 9, 8 * maxMSRBitmap} {
		if err := vm.DenyMSRs(MSRRange{Base: 0x4b564d00, Count: count}); err != nil {
			t.Errorf("%d registers: %v", count, err)
		}
	}
}
