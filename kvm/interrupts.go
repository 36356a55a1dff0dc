package kvm

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Events reports whether an exception, an interrupt, an NMI, an SMI or an INIT
// is pending in the vCPU (api.rst 4.31). It does not count interrupts that the local
// APIC still holds: LAPIC has those.
func (c *VCPU) Events() (bool, error) {
	var e vcpuEvents
	if err := c.call("KVM_GET_VCPU_EVENTS", ioctlStruct(c.fd.n, kvmGetVCPUEvents, &e)); err != nil {
		return false, err
	}
	return e.exceptionInjected|e.exceptionPending|e.interruptInjected|
		e.nmiInjected|e.nmiPending|e.smiPending|e.latchedInit != 0, nil
}

// LAPIC is the state of a local APIC, as Intel SDM vol. 3 §11.4 has it.
type LAPIC struct{ state lapic }

// Register reads the register at off.
func (l *LAPIC) Register(off int) uint32 { return binary.LittleEndian.Uint32(l.state.regs[off:]) }

// LAPIC reads the local APIC's registers (api.rst 4.57).
func (c *VCPU) LAPIC() (l LAPIC, err error) {
	return l, c.call("KVM_GET_LAPIC", ioctlStruct(c.fd.n, kvmGetLAPIC, &l.state))
}

// MSR reads a model-specific register (api.rst 4.18).
func (c *VCPU) MSR(index uint32) (uint64, error) {
	m := msr{count: 1, index: index}
	n, err := ioctlStructFD(c.fd.n, kvmGetMSRs, &m)
	if err == nil && n != 1 { // it answers with how many it has read
		err = unix.EINVAL
	}
	return m.value, c.call(fmt.Sprintf("KVM_GET_MSRS 0x%x", index), err)
}

// PICMask returns the interrupt mask register of the first PIC (api.rst 4.26).
func (v *VM) PICMask() (byte, error) {
	c, err := v.chip(chipPIC)
	return c.chip[picIMR], err
}

// IOAPICPins is the number of pins of the I/O APIC.
const IOAPICPins = ioapicPins

// IOAPIC reads the redirection table of the I/O APIC (api.rst 4.26).
func (v *VM) IOAPIC() (entries [IOAPICPins]uint64, err error) {
	c, err := v.chip(chipIOAPIC)
	for i := range entries {
		entries[i] = binary.LittleEndian.Uint64(c.chip[ioapicEntries+8*i:])
	}
	return entries, err
}

func (v *VM) chip(id uint32) (*irqChip, error) {
	c := &irqChip{id: id}
	if err := ioctlStruct(v.fd.n, kvmGetIRQChip, c); err != nil {
		return c, fmt.Errorf("KVM_GET_IRQCHIP %d: %w", id, err)
	}
	return c, nil
}

// PITTimer is channel 0 of the PIT: the mode, 0 to 5 or 0xff after a reset, and
// when it was last loaded, on CLOCK_MONOTONIC.
type PITTimer struct {
	Mode   uint8
	Loaded time.Duration
}

// PIT reads channel 0 of the PIT (api.rst 4.72).
func (v *VM) PIT() (PITTimer, error) {
	var s pitState
	if err := ioctlStruct(v.fd.n, kvmGetPIT2, &s); err != nil {
		return PITTimer{}, fmt.Errorf("KVM_GET_PIT2: %w", err)
	}
	return PITTimer{s.channels[0].mode, time.Duration(s.channels[0].loadTime)}, nil
}
