package kvm

import (
	"math"
	"strings"
	"testing"
)

// TestAllowMSRs holds that ranges in more blocks than KVM takes are refused before any
// system call, and that others are taken.
func TestAllowMSRs(t *testing.T) {
	var many []MSRRange
	for i := range uint32(maxMSRRanges + 1) {
		many = append(many, MSRRange{Base: i * msrBlock, Count: 1})
	}
	if err := (&VM{fd: fd{n: -1}}).AllowMSRs(many...); err == nil || strings.Contains(err.Error(), "bad file descriptor") {
		t.Errorf("registers in %d blocks: %v", len(many), err)
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
	for _, ranges := range [][]MSRRange{{{0x10, 1}}, {{0x10, 1}, {0xffe, 4}, {math.MaxUint32, 1}}, many[1:]} {
		if err := vm.AllowMSRs(ranges...); err != nil {
			t.Errorf("%v: %v", ranges, err)
		}
	}
}
