package vmm

import (
	"math/bits"

	"offmap/kvm"
)

// Bits and leaves of CPUID (Intel SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E).
const (
	leaf1Deadline   = 1 << 24 // ECX: TSC-deadline mode of the local APIC timer
	leaf1Hypervisor = 1 << 31 // ECX
	leaf1HTT        = 1 << 28 // EDX

	kvmSignature = 0x40000000
	kvmFeatures  = 0x40000001
	extFeatures  = 0x80000001
	extSizes     = 0x80000008
	extAPIC      = 0x8000001e
)

// Level types of the topology leaves 0xb and 0x1f.
const (
	levelThread = 1
	levelCore   = 2
)

// guestCPUID turns what KVM supports into what vCPU id of cpus sees: one
// socket, one thread a core, cores numbered by APIC id.
//
// With hidden, the guest's RAM is off the host's direct map, and the guest gets what
// allowedCPUID has. So everything is left out through which a guest can have KVM reach into
// its RAM on its own: KVM's paravirtual features, other hypervisors' leaves, and nested
// virtualization.
func guestCPUID(supported []kvm.CPUIDEntry, id, cpus int, hidden bool) []kvm.CPUIDEntry {
	var out []kvm.CPUIDEntry
	for _, e := range supported {
		if hidden {
			var ok bool
			if e, ok = allow(e); !ok {
				continue
			}
		}
		switch {
		case e.Function == 1:
			// KVM emulates the deadline timer (createCPUs has asked) but
			// leaves it to us to say so (api.rst 4.46). Without it Linux
			// calibrates the timer against the PIT, which fails where
			// the host is slow.
			e.ECX |= leaf1Hypervisor | leaf1Deadline
			e.EBX = e.EBX&0xffff | uint32(cpus)<<16 | uint32(id)<<24
			e.EDX &^= leaf1HTT
			if cpus > 1 {
				e.EDX |= leaf1HTT
			}
		case e.Function == 0xb || e.Function == 0x1f:
			continue // added below, whole
		case e.Function == extSizes:
			e.ECX = uint32(cpus-1) | uint32(idBits(cpus))<<12
		case e.Function == extAPIC:
			e.EAX, e.EBX, e.ECX = uint32(id), uint32(id), 0
		case e.Function == kvmSignature && hidden:
			e.EAX = kvmFeatures // the highest leaf; the signature stays
		case e.Function == kvmFeatures && hidden:
			e.EAX, e.EDX = 0, 0
		}
		out = append(out, e)
	}
	if hidden {
		fitXSAVE(out)
	}
	return append(out, topology(id, cpus)...)
}

// idBits is how many bits of an APIC id number the cores.
func idBits(cpus int) int { return bits.Len(uint(cpus - 1)) }

// topology is leaf 0xb: one thread a core, all cores in one package.
func topology(id, cpus int) []kvm.CPUIDEntry {
	level := func(index, shift, count, kind uint32) kvm.CPUIDEntry {
		return kvm.CPUIDEntry{
			Function: 0xb, Index: index, Flags: kvm.CPUIDSignificantIndex,
			EAX: shift, EBX: count, ECX: index | kind<<8, EDX: uint32(id),
		}
	}
	return []kvm.CPUIDEntry{
		level(0, 0, 1, levelThread),
		level(1, uint32(idBits(cpus)), uint32(cpus), levelCore),
		level(2, 0, 0, 0),
	}
}
