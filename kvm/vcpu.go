package kvm

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// VCPU is a virtual CPU. Every method but RequestExit belongs to one thread at a
// time: the one that calls Run, or another that it waits for (api.rst 2; the
// first call from another costs a little).
type VCPU struct {
	fd   fd
	id   int
	run  []byte
	exit Exit

	unmap    sync.Once
	unmapErr error
}

// ID returns the vCPU's number, which is its APIC ID.
func (c *VCPU) ID() int { return c.id }

// Close unmaps the run page and closes the vCPU. No thread may be in Run any more.
func (c *VCPU) Close() error {
	c.unmap.Do(func() {
		if err := unix.Munmap(c.run); err != nil {
			c.unmapErr = fmt.Errorf("munmap of vCPU %d's kvm_run: %w", c.id, err)
		}
		c.run = nil
	})
	if err := c.fd.close("vcpu"); err != nil {
		return err
	}
	return c.unmapErr
}

// Regs reads the general registers (api.rst 4.11).
func (c *VCPU) Regs() (r Regs, err error) {
	return r, c.call("KVM_GET_REGS", ioctlStruct(c.fd.n, kvmGetRegs, &r))
}

// SetRegs writes the general registers (api.rst 4.12).
func (c *VCPU) SetRegs(r Regs) error {
	return c.call("KVM_SET_REGS", ioctlStruct(c.fd.n, kvmSetRegs, &r))
}

// SRegs reads the segment and control registers (api.rst 4.13).
func (c *VCPU) SRegs() (s SRegs, err error) {
	return s, c.call("KVM_GET_SREGS", ioctlStruct(c.fd.n, kvmGetSRegs, &s))
}

// SetSRegs writes the segment and control registers (api.rst 4.14).
func (c *VCPU) SetSRegs(s SRegs) error {
	return c.call("KVM_SET_SREGS", ioctlStruct(c.fd.n, kvmSetSRegs, &s))
}

// SetXCR0 writes the register that says which vector registers the guest may
// use (api.rst 4.45). It comes after SetCPUID, which must allow them.
func (c *VCPU) SetXCR0(value uint64) error {
	x := xcrs{count: 1, list: [16]xcr{{number: 0, value: value}}}
	return c.call("KVM_SET_XCRS", ioctlStruct(c.fd.n, kvmSetXCRS, &x))
}

// SetCPUID sets what the CPUID instruction tells the guest (api.rst 4.20). It
// comes before the first Run.
func (c *VCPU) SetCPUID(entries []CPUIDEntry) error {
	if len(entries) > maxCPUIDEntries {
		return fmt.Errorf("KVM_SET_CPUID2 of vCPU %d: %d entries, at most %d", c.id, len(entries), maxCPUIDEntries)
	}
	t := cpuid2{nent: uint32(len(entries))}
	copy(t.entries[:], entries)
	return c.call("KVM_SET_CPUID2", ioctlStruct(c.fd.n, kvmSetCPUID2, &t))
}

// EnableCap turns a vCPU capability on (api.rst 4.37).
func (c *VCPU) EnableCap(cp Cap, args ...uint64) error {
	return enable(c.fd.n, fmt.Sprintf("vCPU %d", c.id), cp, args)
}

// MPState reads the multiprocessing state (api.rst 4.38).
func (c *VCPU) MPState() (s MPState, err error) {
	return s, c.call("KVM_GET_MP_STATE", ioctlStruct(c.fd.n, kvmGetMPState, &s))
}

// SetMPState writes the multiprocessing state (api.rst 4.39). With an in-kernel
// APIC every vCPU but number 0 starts as MPUninitialized and waits for a SIPI.
func (c *VCPU) SetMPState(s MPState) error {
	return c.call("KVM_SET_MP_STATE", ioctlStruct(c.fd.n, kvmSetMPState, &s))
}

// TSCKHz returns the frequency of the guest's TSC in kHz (api.rst 4.56).
func (c *VCPU) TSCKHz() (int, error) {
	n, err := ioctl(c.fd.n, kvmGetTSCKHz, 0)
	return n, c.call("KVM_GET_TSC_KHZ", err)
}

// Stats reads the vCPU's statistics (api.rst 4.133).
func (c *VCPU) Stats() (Stats, error) { return readStats(c.fd.n) }

func (c *VCPU) call(name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s of vCPU %d: %w", name, c.id, err)
	}
	return nil
}
