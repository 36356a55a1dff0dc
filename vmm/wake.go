package vmm

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/vmm/serial"
)

// sleeper is the state of a vCPU that is outside the guest.
type sleeper struct {
	state      kvm.MPState
	interrupts bool // RFLAGS.IF
	coming     bool // an event is on its way in, or held by the local APIC
	timer      bool // the local APIC's is set
	lint0      bool // what the PIC raises gets here, as an interrupt
	nmi        bool // or as an event that interrupts off don't stop
}

// sources is what can still interrupt vCPUs that all sleep.
type sources struct {
	pit, serial bool // raise their lines
	msi, msiNMI bool // PCI devices may send interrupts, or events that interrupts off don't stop
	ioapic      [kvm.IOAPICPins]uint64
	picMask     byte
}

// Registers of the local APIC, Intel SDM vol. 3 §11.4.1, and what LVT and
// redirection entries have in common (§11.5.1; 82093AA data sheet, §3.2.4).
const (
	apicIRR          = 0x200 // eight registers, 16 bytes apart
	apicTimer        = 0x320
	apicLINT0        = 0x350
	apicInitialCount = 0x380
	apicCurrentCount = 0x390

	entryMode     = 7 << 8
	entryModeFix  = 0 << 8
	entryModeLow  = 1 << 8
	entryModeExt  = 7 << 8
	entryMasked   = 1 << 16
	timerMode     = 3 << 17
	timerPeriodic = 1 << 17
	timerDeadline = 2 << 17

	msrAPICBase    = 0x1b
	msrAPICEnabled = 1 << 11
	msrTSCDeadline = 0x6e0

	rflagsIF = 1 << 9

	pitIRQ         = 0
	pitRate        = 2 // the modes 2 and 3 are periodic
	pitSquare      = 3
	pitLongestShot = 2 * time.Second // 65536/1193182 s, and a margin
)

// waiting reports whether a vCPU in this state waits for an event.
func waiting(s kvm.MPState) bool {
	return s == kvm.MPHalted || s == kvm.MPUninitialized || s == kvm.MPInitReceived
}

// forever reports whether these vCPUs sleep for good, and why. In doubt they don't:
// any interrupt whose destination isn't known wakes the guest.
func forever(cpus []sleeper, s sources) (why string, ok bool) {
	if s.msiNMI {
		return "", false
	}
	interruptible := false
	for _, c := range cpus {
		listens := c.state == kvm.MPHalted && c.interrupts
		switch {
		case !waiting(c.state), c.coming, c.nmi:
			return "", false
		case listens && (c.timer || c.lint0 && s.picRaises()):
			return "", false
		}
		interruptible = interruptible || listens
	}
	if interruptible && s.msi {
		return "", false
	}
	for pin, e := range s.ioapic {
		if !s.raises(pin) || e&entryMasked != 0 {
			continue
		}
		switch e & entryMode {
		case entryModeFix, entryModeLow, entryModeExt:
			if interruptible {
				return "", false
			}
		default: // NMI, SMI, INIT
			return "", false
		}
	}
	if interruptible {
		return "all vCPUs are halted, and no timer or device is set up to wake one", true
	}
	return "all vCPUs are halted with interrupts off, so that nothing can wake the guest", true
}

func (s sources) raises(irq int) bool {
	return s.pit && irq == pitIRQ || s.serial && irq == serial.COM1IRQ
}

func (s sources) picRaises() bool {
	for irq := range 8 {
		if s.raises(irq) && s.picMask&(1<<irq) == 0 {
			return true
		}
	}
	return false
}

// sleeper reads the state of the vCPU, whose loop must be outside the guest. It reads
// the deadline before IRR, as KVM writes them in the other order: a timer that goes
// off meanwhile is seen in one of them.
func (c *vcpu) sleeper() (s sleeper, err error) {
	if s.state, err = c.MPState(); err != nil || !waiting(s.state) {
		return s, err
	}
	if s.coming, err = c.Events(); err != nil {
		return s, err
	}
	regs, err := c.Regs()
	if err != nil {
		return s, err
	}
	s.interrupts = regs.RFLAGS&rflagsIF != 0
	base, err := c.MSR(msrAPICBase)
	if err != nil {
		return s, err
	}
	deadline, err := c.MSR(msrTSCDeadline)
	if err != nil {
		return s, err
	}
	apic, err := c.LAPIC()
	if err != nil {
		return s, err
	}
	if s.interrupts {
		for i := range 8 {
			s.coming = s.coming || apic.Register(apicIRR+16*i) != 0
		}
	}
	timer := apic.Register(apicTimer)
	switch {
	case timer&entryMasked != 0:
	case timer&timerMode == timerDeadline:
		s.timer = deadline != 0
	case timer&timerMode == timerPeriodic:
		s.timer = apic.Register(apicInitialCount) != 0
	default:
		s.timer = apic.Register(apicCurrentCount) != 0
	}
	lint0 := apic.Register(apicLINT0)
	switch {
	case base&msrAPICEnabled == 0: // then the PIC is wired to the processor
		s.lint0 = true
	case lint0&entryMasked != 0:
	case lint0&entryMode == entryModeFix, lint0&entryMode == entryModeExt:
		s.lint0 = true
	default:
		s.nmi = true
	}
	return s, nil
}

// sources reads what can still interrupt.
func (m *Machine) sources() (s sources, err error) {
	pit, err := m.vm.PIT()
	if err != nil {
		return s, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return s, fmt.Errorf("clock_gettime: %w", err)
	}
	s.pit = pit.Mode == pitRate || pit.Mode == pitSquare || time.Duration(now.Nano())-pit.Loaded < pitLongestShot
	s.serial = m.uart.Interrupts()
	s.msi, s.msiNMI = m.pci.Interrupts()
	if s.ioapic, err = m.vm.IOAPIC(); err != nil {
		return s, err
	}
	s.picMask, err = m.vm.PICMask()
	return s, err
}
