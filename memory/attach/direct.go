package attach

import (
	"offmap/kvm"
	"offmap/memory"
)

// direct is RAM whose own mapping is the slot.
type direct struct{ ram *memory.RAM }

// openDirect tries secret memory on a VM of its own: it depends on this host's
// KVM whether that takes it. Every KVM takes other memory.
func openDirect(sys *kvm.System, ram *memory.RAM) (attachment, error) {
	if ram.Backend() == memory.Secret {
		if err := ProbeDirect(sys, ram.Backend()); err != nil {
			return nil, err
		}
	}
	return direct{ram}, nil
}

func (d direct) slots() []kvm.Slot       { return slotsOf(d.ram, d.ram.Pointer()) }
func (d direct) guest() memory.Guest     { return d.ram }
func (d direct) faults() *Faults         { return nil }
func (d direct) Failed() <-chan struct{} { return nil }
func (d direct) Err() error              { return nil }
func (d direct) Close() error            { return nil }

func (d direct) usage() (u Usage, err error) {
	if u.Populated, err = d.ram.Populated(); err != nil {
		return u, err
	}
	if d.ram.Backend().Exposed() {
		// Pages never leave ordinary memory before the end.
		u.Exposed, u.ExposedPeak = u.Populated, u.Populated
	}
	return u, nil
}

func (d direct) residency(pages []memory.PageState) (peak uint64, err error) {
	return 0, d.ram.Residency(pages)
}
