package vmm

import "testing"

// TestTrapsINT3 says what this KVM does.
func TestTrapsINT3(t *testing.T) {
	needKVM(t)
	traps, err := trapsINT3("")
	if err != nil || traps && vendor() == "pvm" {
		t.Errorf("%v, %v", traps, err)
	}
	t.Logf("INT3 ends KVM_RUN: %v", traps)
}
