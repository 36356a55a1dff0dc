package power

import "sync"

// PM is the fixed ACPI power management block: PM1 events, of which there are
// none, and the control register that turns the machine off.
type PM struct {
	powerOff func()

	mu     sync.Mutex
	enable uint16
	ctl    uint16
}

// NewPM returns a PM block at its reset state. PowerOff is called, on the
// vCPU's thread and once for each request, when the guest enters S5.
func NewPM(powerOff func()) *PM { return &PM{powerOff: powerOff, ctl: sciEnable} }

// Read implements bus.Device.
func (d *PM) Read(off uint64, p []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range p {
		p[i] = d.register(off + uint64(i))
	}
}

func (d *PM) register(off uint64) byte {
	switch off {
	case PM1Enable, PM1Enable + 1:
		return byte(d.enable >> (8 * (off - PM1Enable)))
	case PM1Control, PM1Control + 1:
		return byte(d.ctl >> (8 * (off - PM1Control)))
	}
	return 0 // status: nothing ever happened
}

// Write implements bus.Device. Byte accesses work as on hardware: SLP_EN is
// in the high byte of the control register, together with SLP_TYP.
func (d *PM) Write(off uint64, p []byte) {
	if d.store(off, p) {
		d.powerOff()
	}
}

// store reports whether the guest asked for S5.
func (d *PM) store(off uint64, p []byte) (off5 bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, v := range p {
		switch off := off + uint64(i); off {
		case PM1Enable, PM1Enable + 1:
			setByte(&d.enable, off-PM1Enable, v)
		case PM1Control, PM1Control + 1:
			ctl := d.ctl
			setByte(&ctl, off-PM1Control, v)
			d.ctl = ctl&controlStays | sciEnable
			off5 = off5 || ctl&sleepEnable != 0 && ctl>>sleepShift&sleepMask == SleepS5
		}
	}
	return off5
}

func setByte(r *uint16, i uint64, v byte) {
	*r = *r&^(0xff<<(8*i)) | uint16(v)<<(8*i)
}
