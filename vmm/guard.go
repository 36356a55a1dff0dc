package vmm

import (
	"fmt"

	"offmap/kvm"
)

// A guest whose RAM is not in the host's direct map must never get KVM to use
// that RAM through the direct map: the host would oops. KVM does so for its
// paravirtual interfaces (the kvm-clock code writes guest pages by
// gfn_to_pfn_cache, which takes a direct-map address for granted) and for
// nested guests (kvm_vcpu_map).
//
// So the guest sees none of them (guestCPUID), KVM enforces that for the
// features it can, and on top every paravirtual MSR is denied, those of Hyper-V,
// Xen and of software KVMs included: CPUID bits are promises, and a hostile
// guest writes an MSR that it wasn't told of.

// paravirtualMSRs are the ranges where hypervisors keep theirs: KVM's
// (Documentation/virt/kvm/x86/msr.rst: 0x4b564d00 to 0x4b564dff, PVM's among
// them), the two old ones of kvm-clock, and 0x40000000 on for Hyper-V and Xen.
var paravirtualMSRs = []kvm.MSRRange{
	{Base: 0x4b564d00, Count: 0x100},
	{Base: 0x11, Count: 2},
	{Base: 0x40000000, Count: 0x1200},
}

// unguarded refuses a host that can't enforce what the guard needs.
func unguarded(err error) error {
	return fmt.Errorf("refused to run with guest RAM off the direct map, since a guest could crash this host (Linux 5.10 or newer guards against it): %w", err)
}

func guardVM(vm *kvm.VM) error {
	if err := vm.DenyMSRs(paravirtualMSRs...); err != nil {
		return unguarded(err)
	}
	return nil
}

// guardCPU makes KVM enforce the paravirtual features that guestCPUID left
// out. It comes after the vCPU's CPUID is set.
func guardCPU(vm *kvm.VM, c *kvm.VCPU) error {
	if err := c.EnableCap(kvm.CapEnforcePVFeatures, 1); err != nil {
		return unguarded(err)
	}
	if has, err := vm.Check(kvm.CapHyperVEnforceCPUID); err != nil || has == 0 {
		return err
	}
	return c.EnableCap(kvm.CapHyperVEnforceCPUID, 1)
}
