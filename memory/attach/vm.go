package attach

import (
	"errors"

	"offmap/kvm"
	"offmap/memory"
)

// VM is a VM with guest RAM and nothing else: no vCPU, no device, and no guard
// (see vmm) that keeps its guest from hurting the host. Trials and measurements
// run on it.
type VM struct {
	System *kvm.System
	KVM    *kvm.VM
	RAM    *memory.RAM
	*Attachment
}

// NewVM opens the KVM at device ("" for kvm.DefaultPath), makes a VM with RAM
// of the layout, and attaches that. SetSlots is the caller's to call. A failure
// leaves nothing behind.
func NewVM(device string, p Pair, l memory.Layout, opts Options) (*VM, error) {
	v := &VM{}
	if err := v.create(device, p, l, opts); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *VM) create(device string, p Pair, l memory.Layout, opts Options) (err error) {
	if v.System, err = kvm.Open(device); err != nil {
		return err
	}
	if err := v.addRAM(v.System, p.Backend, l); err != nil {
		return err
	}
	v.Attachment, err = Open(v.System, v.RAM, p.Attach, opts)
	return err
}

func (v *VM) addRAM(sys *kvm.System, b memory.Backend, l memory.Layout) (err error) {
	if v.KVM, err = sys.CreateVM(); err != nil {
		return err
	}
	v.RAM, err = NewRAM(v.KVM, b, l)
	return err
}

// SetSlots gives the attached RAM to the VM, in slots that have more flags.
func (v *VM) SetSlots(flags uint32) error { return setSlots(v.KVM, v.Slots(), flags) }

func setSlots(vm *kvm.VM, slots []kvm.Slot, flags uint32) error {
	for _, s := range slots {
		s.Flags |= flags
		if err := vm.SetSlot(s); err != nil {
			return err
		}
	}
	return nil
}

// Detach closes everything but the RAM.
func (v *VM) Detach() error {
	var errs []error
	if v.KVM != nil {
		errs = append(errs, v.KVM.Close())
	}
	if v.Attachment != nil {
		errs = append(errs, v.Attachment.Close())
	}
	if v.System != nil {
		errs = append(errs, v.System.Close())
	}
	v.KVM, v.Attachment, v.System = nil, nil, nil
	return errors.Join(errs...)
}

// Close closes everything. The vCPUs are closed before.
func (v *VM) Close() error {
	err := v.Detach()
	if v.RAM != nil {
		err = errors.Join(err, v.RAM.Close())
	}
	return err
}

// withRAM calls f with a VM of sys that has size bytes of RAM from address 0 on,
// not attached, and closes it when f returns.
func withRAM(sys *kvm.System, b memory.Backend, size uint64, f func(*VM) error) error {
	layout, err := memory.LayoutOf(memory.Region{Size: size})
	if err != nil {
		return err
	}
	v := &VM{}
	if err = v.addRAM(sys, b, layout); err == nil {
		err = f(v)
	}
	return errors.Join(err, v.Close())
}
