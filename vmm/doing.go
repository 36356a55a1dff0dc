package vmm

import "offmap/kvm"

// Doing is what a vCPU was doing when it left the guest for the last time.
type Doing struct {
	RIP   uint64
	User  bool // at CPL 3
	State kvm.MPState
	// Syscall is where the guest's kernel enters for a system call: the MSR LSTAR,
	// 0 before it is set. It tells where the kernel is.
	Syscall uint64
}

const msrLSTAR = 0xc0000082

// doing returns what each vCPU was doing, when their loops have ended. Of a VM that KVM
// has declared dead it returns nothing.
func (m *Machine) doing() (list []Doing) {
	for _, c := range m.cpus {
		d, err := c.doing()
		if err != nil {
			return nil
		}
		list = append(list, d)
	}
	return list
}

func (c *vcpu) doing() (d Doing, err error) {
	if d.State, err = c.MPState(); err != nil {
		return d, err
	}
	r, err := c.Regs()
	if err != nil {
		return d, err
	}
	s, err := c.SRegs()
	if err != nil {
		return d, err
	}
	d.RIP, d.User = r.RIP, s.CS.Selector&3 == 3
	d.Syscall, err = c.MSR(msrLSTAR)
	return d, err
}
