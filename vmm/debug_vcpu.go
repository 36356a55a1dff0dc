package vmm

import (
	"fmt"

	"offmap/kvm"
)

// hold is called by a vCPU's loop, outside the guest. It returns when the vCPU may go
// on, or the guest has ended.
func (d *Debugger) hold(c *vcpu) {
	d.mu.Lock()
	s := &d.cpus[c.ID()]
	for s.action == Hold {
		if !s.held {
			s.held = true
			d.settle()
		}
		resume := s.resume
		d.mu.Unlock()
		select {
		case <-resume:
		case <-d.m.ended:
			return
		}
		d.mu.Lock()
	}
	d.mu.Unlock()
}

// Bits of DR6 and DR7, Intel SDM vol. 3 §18.2.
const (
	dr6Step   = 1 << 14 // BS
	dr7Exact  = 3 << 8  // LE and GE, which new processors ignore
	dr7Fixed  = 1 << 10 // always 1
	dr7Global = 2       // G0; those of the others are two bits apart each
)

// control returns the debug registers for a vCPU.
func (d *Debugger) control(a Action) (g kvm.GuestDebug) {
	if !d.attached {
		return g
	}
	g.Control = kvm.DebugEnable
	if a == Step {
		// Without interrupts: the step would end in the timer's handler each
		// time.
		g.Control |= kvm.DebugSingleStep | d.blockIRQ
	}
	if len(d.software) > 0 {
		g.Control |= kvm.DebugUseSWBP
	}
	for i, b := range d.hardware {
		if b.Kind == 0 {
			continue
		}
		g.Control |= kvm.DebugUseHWBP
		g.DR[i] = b.Addr
		g.DR[7] |= dr7Exact | dr7Fixed | dr7Global<<(2*i) | b.dr7()<<(16+4*i)
	}
	return g
}

// trap is called by a vCPU's loop for an ExitDebug. An exception that is not for the
// debugger goes to the guest: Linux uses INT3 itself, to patch its code.
func (d *Debugger) trap(c *vcpu, x *kvm.Exit) {
	d.mu.Lock()
	s, inject := d.judge(c, x)
	if inject != 0 {
		g := d.control(d.cpus[c.ID()].action)
		g.Control |= inject
		err := c.SetGuestDebug(g)
		d.mu.Unlock()
		if err != nil {
			d.m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("KVM doesn't give the guest its own debug exception%s", c.where())}, err)
		}
		return
	}
	if d.stopping && s.Reason == AtWatch {
		d.cpus[c.ID()].watch = &s
	}
	d.stop(s)
	// It may have been about to go on when another had it stop.
	d.mu.Unlock()
	d.hold(c)
}

// judge returns whose exception it is: the debugger's, or the guest's, which is then
// to be injected.
func (d *Debugger) judge(c *vcpu, x *kvm.Exit) (s Stop, inject uint32) {
	s.CPU = c.ID()
	if x.Code == kvm.VectorBP {
		if d.patched(c, x.Addr) {
			s.Reason = AtSoftware
			return s, 0
		}
		return s, kvm.DebugInjectBP
	}
	for i, b := range d.hardware {
		if b.Kind != 0 && x.DR6&(1<<i) != 0 {
			switch b.Kind {
			case Software:
				s.Reason = AtSoftware
			case Hardware:
				s.Reason = AtHardware
			default:
				s.Reason, s.At = AtWatch, b
			}
			return s, 0
		}
	}
	// An action Hold is a step that another vCPU's stop overtook.
	if x.DR6&dr6Step != 0 && d.cpus[c.ID()].action != Continue {
		s.Reason = Stepped
		return s, 0
	}
	return s, kvm.DebugInjectDB
}
