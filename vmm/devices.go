package vmm

import (
	"errors"
	"io"
	"sync"
	"time"

	"offmap/kvm"
	"offmap/memory"
	"offmap/vmm/bus"
	"offmap/vmm/pci"
	"offmap/vmm/power"
	"offmap/vmm/pvpanic"
	"offmap/vmm/rtc"
	"offmap/vmm/serial"
	"offmap/vmm/virtio"
)

// irqLine is a line of the in-kernel interrupt controllers.
type irqLine struct {
	vm *kvm.VM
	n  uint32
}

func (l irqLine) SetLevel(high bool) error {
	if err := l.vm.SetIRQ(l.n, high); !dead(err) { // a vCPU reports a dead VM
		return err
	}
	return nil
}

func (m *Machine) createDevices() error {
	out := m.cfg.Console
	if out == nil {
		out = io.Discard
	}
	m.uart = serial.New(serial.Config{
		Out:     out,
		IRQ:     irqLine{m.vm, serial.COM1IRQ},
		Sent:    m.panics.console(),
		Ended:   m.ended,
		OnError: m.warn,
	})
	m.pci = pci.NewBus(&pciVM{m: m}, &m.mmio)
	reset := func() { m.finish(m.resetOutcome(), nil) }
	off := func() { m.finish(Outcome{Reason: PowerOff}, nil) }
	for _, d := range []struct {
		name       string
		base, size uint64
		dev        bus.Device
	}{
		{"serial port", serial.COM1, serial.Size, m.uart},
		{"report port", reportBase, reportSize, &report{m}},
		{"ACPI power management", power.PMBase, power.PMSize, power.NewPM(off)},
		{"PCI configuration", pci.ConfigPort, pci.ConfigSize, m.pci.Ports(power.NewResetControl(reset))},
		{"clock", rtc.Port, rtc.Size, rtc.New(time.Now)},
		{"panic device", pvpanic.Port, pvpanic.Size, pvpanic.New(m.panics.told)},
		{"keyboard controller", power.KeyboardPort, power.KeyboardSize, power.NewKeyboard(reset)},
	} {
		if err := m.ports.Add(d.name, d.base, d.size, d.dev); err != nil {
			return err
		}
	}
	return nil
}

// pciVM is the machine as its PCI bus needs it.
type pciVM struct {
	m    *Machine
	warn sync.Once
}

// SignalMSI implements pci.VM. KVM takes whatever the guest has written as a message.
// If it ever refuses one, Config.Warn is told of the first.
func (v *pciVM) SignalMSI(addr uint64, data uint32) {
	if err := v.m.vm.SignalMSI(addr, data); err != nil && !dead(err) { // a vCPU reports a dead VM
		v.warn.Do(func() { v.m.warn(err) })
	}
}

// IOEventFD implements pci.VM.
func (v *pciVM) IOEventFD(addr memory.GPA, fd int) (remove func() error, err error) {
	if err := v.m.vm.AddIOEventFD(uint64(addr), fd); err != nil {
		return nil, err
	}
	return func() error { return v.m.vm.RemoveIOEventFD(uint64(addr), fd) }, nil
}

// attachDevices puts the devices of Config on the PCI bus.
func (m *Machine) attachDevices() error {
	for _, d := range m.cfg.Devices {
		if c, ok := d.(interface{ Watch(sent func(byte)) }); ok {
			c.Watch(m.panics.console())
		}
		t, err := virtio.Attach(m.pci, m.attach.Guest(), d, m.warn)
		if err != nil {
			return err
		}
		m.virtio = append(m.virtio, t)
	}
	return nil
}

// closeDevices stops and closes the devices of Config: no goroutine of theirs uses
// guest RAM any more.
func (m *Machine) closeDevices() error {
	m.detach.Do(func() {
		var errs []error
		for i, d := range m.cfg.Devices {
			if i < len(m.virtio) {
				errs = append(errs, m.virtio[i].Close())
			} else {
				errs = append(errs, d.Close())
			}
		}
		m.detachErr = errors.Join(errs...)
	})
	return m.detachErr
}

// stopOutput makes what is left of the guest's output not hold up the end of Run.
func (m *Machine) stopOutput() {
	m.uart.Stop()
	for _, d := range m.cfg.Devices {
		if s, ok := d.(interface{ Stop() }); ok {
			s.Stop()
		}
	}
}
