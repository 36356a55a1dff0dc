package vmm

import (
	"errors"
	"fmt"

	"offmap/kvm"
)

// KVM reaches some guest pages through the direct map. It does so for paravirtual
// interfaces (kvm-clock writes guest pages by gfn_to_pfn_cache, which expects a
// direct-map address) and for nested guests (kvm_vcpu_map). If guest RAM isn't in
// the direct map, the host oopses.
//
// So such a guest sees neither in CPUID (allowedCPUID), and KVM enforces what it can of
// that. A hostile guest can still access an MSR that CPUID doesn't name, so KVM refuses
// those that aren't in allowedMSRs.

// unguarded is the error of a host whose KVM can't enforce this.
func unguarded(err error) error {
	return fmt.Errorf("refused to run with guest RAM off the direct map, since a guest could crash this host (Linux 5.10 or newer guards against it): %w", err)
}

func guardVM(vm *kvm.VM) error {
	if err := vm.AllowMSRs(allowedMSRs...); err != nil {
		return unguarded(err)
	}
	return enableOffered(vm, kvm.CapPMUCapability, kvm.PMUDisable)
}

// protectHost has exits end what else a guest could do to others on its host, with hidden
// RAM or without: to stay in the guest for good with no window for interrupts (NOTIFY VM
// exits, Intel), and to slow all CPUs down by locked accesses across cache lines.
func protectHost(vm *kvm.VM) error {
	return errors.Join(
		enableOffered(vm, kvm.CapNotifyVMExit, kvm.NotifyVMExitEnabled),
		enableOffered(vm, kvm.CapBusLockExit, kvm.BusLockExit))
}

// enableOffered turns a VM capability on if its flag is among those that KVM offers.
func enableOffered(vm *kvm.VM, c kvm.Cap, flag uint64) error {
	offered, err := vm.Check(c)
	if err != nil || uint64(offered)&flag == 0 {
		return err
	}
	return vm.EnableCap(c, flag)
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
