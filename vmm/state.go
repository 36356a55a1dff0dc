package vmm

import (
	"offmap/kvm"
	"offmap/vmm/boot"
)

// SetState puts a vCPU that hasn't run into the state that a boot.Loader returned.
// The VM may have an in-kernel interrupt controller or none (api.rst 4.39).
func SetState(c *kvm.VCPU, s boot.CPU) error {
	sr, err := c.SRegs() // for the reset values of what boot.CPU leaves alone
	if err != nil {
		return err
	}
	data := segment(s.Data)
	sr.CS, sr.TR = segment(s.CS), segment(s.TR)
	sr.DS, sr.ES, sr.FS, sr.GS, sr.SS = data, data, data, data, data
	sr.LDT = kvm.Segment{Unusable: 1}
	sr.GDT = kvm.DTable{Base: s.GDT.Base, Limit: s.GDT.Limit}
	sr.IDT = kvm.DTable{Base: s.IDT.Base, Limit: s.IDT.Limit}
	sr.CR0, sr.CR3, sr.CR4, sr.EFER = s.CR0, s.CR3, s.CR4, s.EFER
	if err := c.SetSRegs(sr); err != nil {
		return err
	}
	if s.XCR0 != 0 {
		if err := c.SetXCR0(s.XCR0); err != nil {
			return err
		}
	}
	err = c.SetRegs(kvm.Regs{
		RIP: s.RIP, RSP: s.RSP, RSI: s.RSI, RDI: s.RDI, RFLAGS: s.RFLAGS,
	})
	if err != nil {
		return err
	}
	return c.SetMPState(kvm.MPRunnable)
}

func segment(s boot.Segment) kvm.Segment {
	bit := func(b bool) uint8 {
		if b {
			return 1
		}
		return 0
	}
	return kvm.Segment{
		Selector: s.Selector, Type: s.Type, DPL: s.DPL, Limit: s.Limit, Present: 1,
		S: bit(!s.System), L: bit(s.Long), DB: bit(s.Big), G: bit(s.Granularity),
	}
}
