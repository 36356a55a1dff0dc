package probe

import (
	"encoding/binary"
	"strings"
)

// cpuid executes the CPUID instruction, with ECX 0. On a virtual machine each call costs
// an exit. So nothing calls it before somebody asks.
func cpuid(leaf uint32) (eax, ebx, ecx, edx uint32)

// Leaves of CPUID: SDM vol. 2, CPUID, and Documentation/virt/kvm/x86/cpuid.rst.
const (
	leafFeatures   = 1
	leafHypervisor = 0x40000000
	leafExtended   = 0x80000000
	leafBrand      = 0x80000002 // and the next two

	hypervisorBit = 1 << 31 // in ECX of leafFeatures
)

// brand returns the name of the processor's model.
func brand() string {
	if most, _, _, _ := cpuid(leafExtended); most < leafBrand+2 {
		return ""
	}
	var text []byte
	for leaf := range uint32(3) {
		a, b, c, d := cpuid(leafBrand + leaf)
		text = registers(text, a, b, c, d)
	}
	return strings.TrimSpace(strings.TrimRight(string(text), "\x00"))
}

// hypervisor returns the signature of the hypervisor that this machine runs on, or
// nothing if it runs on none.
func hypervisor() string {
	if _, _, features, _ := cpuid(leafFeatures); features&hypervisorBit == 0 {
		return ""
	}
	_, b, c, d := cpuid(leafHypervisor)
	return string(registers(nil, b, c, d))
}

// registers appends the text that registers hold.
func registers(text []byte, values ...uint32) []byte {
	for _, v := range values {
		text = binary.LittleEndian.AppendUint32(text, v)
	}
	return text
}
