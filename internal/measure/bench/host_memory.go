package bench

import (
	"errors"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

// machine is a VM with guest RAM attached to it, and no vCPU.
type machine struct {
	sys *kvm.System
	vm  *kvm.VM
	ram *memory.RAM
	at  *attach.Attachment
}

// newMachine makes one with size bytes of RAM, of which nothing is touched.
func newMachine(s Subject, size uint64) (*machine, error) {
	m := &machine{}
	if err := m.create(s, size); err != nil {
		return nil, errors.Join(cannot(err), m.Close())
	}
	return m, nil
}

func (m *machine) create(s Subject, size uint64) error {
	layout, err := memory.NewLayout(size)
	if err != nil {
		return err
	}
	if m.sys, err = kvm.Open(""); err != nil {
		return err
	}
	if m.vm, err = m.sys.CreateVM(); err != nil {
		return err
	}
	if m.ram, err = attach.NewRAM(m.vm, s.Backend, layout); err != nil {
		return err
	}
	if m.at, err = attach.Open(m.sys, m.ram, s.Attach, attach.Options{CPUs: 1}); err != nil {
		return err
	}
	for _, slot := range m.at.Slots() {
		if err := m.vm.SetSlot(slot); err != nil {
			return err
		}
	}
	return nil
}

// detach closes all but the RAM.
func (m *machine) detach() error {
	var errs []error
	if m.vm != nil {
		errs = append(errs, m.vm.Close())
	}
	if m.at != nil {
		errs = append(errs, m.at.Close())
	}
	if m.sys != nil {
		errs = append(errs, m.sys.Close())
	}
	m.vm, m.at, m.sys = nil, nil, nil
	return errors.Join(errs...)
}

// Close frees everything that there is, whatever has been made of it.
func (m *machine) Close() error {
	err := m.detach()
	if m.ram != nil {
		err = errors.Join(err, m.ram.Close())
	}
	return err
}
