package vmm

import (
	"fmt"

	"offmap/kvm"
)

// KVM reaches some guest pages through the direct map. It does so for paravirtual
// interfaces (kvm-clock writes guest pages by gfn_to_pfn_cache, which expects a
// direct-map address) and for nested guests (kvm_vcpu_map). If guest RAM isn't in
// the direct map, the host oopses.
//
// So such a guest sees neither in CPUID (guestCPUID), and KVM enforces what it can
// of that. A hostile guest can still write an MSR that CPUID doesn't name. So every
// paravirtual MSR is denied, those of Hyper-V, Xen and software KVMs included.

// paravirtualMSRs are the ranges of hypervisors' own MSRs: KVM's, with PVM's among
// them (Documentation/virt/kvm/x86/msr.rst), the two old ones of kvm-clock, and
// those of Hyper-V and Xen.
var paravirtualMSRs = []kvm.MSRRange{
	{Base: 0x4b564d00, Count: 0x100},
	{Base: 0x11, Count: 2},
	{Base: 0x40000000, Count: 0x1200},
}

// unguarded is the error of a host whose KVM can't enforce this.
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
