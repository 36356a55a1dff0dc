package kvm

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// VM is a virtual machine: memory slots, an interrupt controller, vCPUs.
type VM struct {
	fd       fd
	mmapSize int
}

// Close closes the VM. Its memory and vCPUs live until they are closed too.
func (v *VM) Close() error { return v.fd.close("vm") }

// Check is System.Check for this VM, whose answer can be narrower.
func (v *VM) Check(c Cap) (int, error) { return checkExtension(v.fd.n, c) }

// EnableCap turns a VM capability on (api.rst 4.37).
func (v *VM) EnableCap(c Cap, args ...uint64) error { return enable(v.fd.n, "VM", c, args) }

func enable(fd int, what string, c Cap, args []uint64) error {
	e := enableCap{capability: uint32(c)}
	copy(e.args[:], args)
	if err := ioctlStruct(fd, kvmEnableCap, &e); err != nil {
		return fmt.Errorf("KVM_ENABLE_CAP %d of the %s: %w", c, what, err)
	}
	return nil
}

// SetTSSAddr places the three pages at guest-physical addr that Intel hosts
// without "unrestricted guest" need (api.rst 4.36). They must not be RAM.
func (v *VM) SetTSSAddr(addr uint64) error {
	if _, err := ioctl(v.fd.n, kvmSetTSSAddr, uintptr(addr)); err != nil {
		return fmt.Errorf("KVM_SET_TSS_ADDR 0x%x: %w", addr, err)
	}
	return nil
}

// SetIdentityMapAddr places the page at guest-physical addr that holds the
// identity map of the same hosts (api.rst 4.41). It must not be RAM, and the
// call comes before the first vCPU.
func (v *VM) SetIdentityMapAddr(addr uint64) error {
	if err := ioctlStruct(v.fd.n, kvmSetIdentityMap, &addr); err != nil {
		return fmt.Errorf("KVM_SET_IDENTITY_MAP_ADDR 0x%x: %w", addr, err)
	}
	return nil
}

// CreateIRQChip makes the in-kernel PICs, I/O APIC and, in each vCPU made
// after it, the local APIC (api.rst 4.24).
func (v *VM) CreateIRQChip() error {
	if _, err := ioctl(v.fd.n, kvmCreateIRQChip, 0); err != nil {
		return fmt.Errorf("KVM_CREATE_IRQCHIP: %w", err)
	}
	return nil
}

// CreatePIT2 makes the in-kernel i8254, port 0x61 included (api.rst 4.71).
func (v *VM) CreatePIT2() error {
	if err := ioctlStruct(v.fd.n, kvmCreatePIT2, &pitConfig{flags: pitSpeakerDummy}); err != nil {
		return fmt.Errorf("KVM_CREATE_PIT2: %w", err)
	}
	return nil
}

// SetIRQ drives an interrupt line of the in-kernel chip (api.rst 4.25).
func (v *VM) SetIRQ(irq uint32, level bool) error {
	l := irqLevel{irq: irq}
	if level {
		l.level = 1
	}
	if err := ioctlStruct(v.fd.n, kvmIRQLine, &l); err != nil {
		return fmt.Errorf("KVM_IRQ_LINE %d: %w", irq, err)
	}
	return nil
}

// MSRRange is Count model-specific registers from Base on.
type MSRRange struct{ Base, Count uint32 }

// AllowMSRs makes every guest access to a register outside of these ranges a #GP (api.rst
// 4.97; CapMSRFilter, Linux 5.10), but for those of the x2APIC, which KVM always lets
// through. It replaces what an earlier call said. The ranges may lie in at most 16 of the
// blocks of 4096 registers.
func (v *VM) AllowMSRs(ranges ...MSRRange) error {
	f := msrFilter{flags: msrFilterDefaultDeny}
	var blocks []*[msrBlock / 8]byte
	for _, r := range ranges {
		for i := range r.Count {
			msr := r.Base + i
			at := 0
			for at < len(blocks) && f.ranges[at].base != msr&^(msrBlock-1) {
				at++
			}
			if at == maxMSRRanges {
				return fmt.Errorf("KVM_X86_SET_MSR_FILTER: registers in more than %d blocks of %d", maxMSRRanges, msrBlock)
			}
			if at == len(blocks) {
				blocks = append(blocks, new([msrBlock / 8]byte))
				f.ranges[at] = msrFilterRange{
					flags: msrFilterRead | msrFilterWrite, count: msrBlock, base: msr &^ (msrBlock - 1), bitmap: &blocks[at][0],
				}
			}
			blocks[at][msr%msrBlock/8] |= 1 << (msr % 8)
		}
	}
	if err := ioctlStruct(v.fd.n, kvmSetMSRFilter, &f); err != nil {
		return fmt.Errorf("KVM_X86_SET_MSR_FILTER: %w", err)
	}
	return nil
}

// CreateVCPU makes the vCPU with the given APIC id (api.rst 4.7).
func (v *VM) CreateVCPU(id int) (*VCPU, error) {
	n, err := retry(func() (int, error) { return ioctl(v.fd.n, kvmCreateVCPU, uintptr(id)) })
	if err != nil {
		return nil, fmt.Errorf("KVM_CREATE_VCPU %d: %w", id, err)
	}
	c := &VCPU{fd: fd{n: n}, id: id}
	c.run, err = unix.Mmap(n, 0, v.mmapSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		c.fd.close("vcpu")
		return nil, fmt.Errorf("mmap of vCPU %d's kvm_run, %d bytes: %w", id, v.mmapSize, err)
	}
	return c, nil
}

// Stats reads the VM's statistics (api.rst 4.133). It wraps errors.ErrUnsupported
// before Linux 5.14.
func (v *VM) Stats() (Stats, error) { return readStats(v.fd.n) }
