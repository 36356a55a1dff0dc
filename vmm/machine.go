package vmm

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"offmap/internal/process/undumpable"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
	"offmap/vmm/bus"
	"offmap/vmm/pci"
	"offmap/vmm/serial"
	"offmap/vmm/virtio"
)

// Where KVM puts the pages that it needs for itself on some Intel hosts, in
// bytes: in the PCI hole, below the I/O APIC, as other VMMs have it.
const (
	tssAddr      = 0xfffbd000
	identityAddr = 0xfffbc000
)

// DefaultMemory is the size in bytes of the RAM of a machine whose Config has
// none.
const DefaultMemory = 512 << 20

// Config describes a machine. A Config with nothing but a Guest is a machine with
// one vCPU and 512 MiB of secret memory.
type Config struct {
	Memory  uint64         // bytes of RAM, whole pages; 0 is DefaultMemory
	CPUs    int            // 1 to boot.MaxCPUs; 0 is 1
	Backend memory.Backend // "" is memory.Secret
	Attach  attach.Method  // "" is attach.Auto
	Options attach.Options // of the attach; New sets its CPUs
	Guest   boot.Loader
	// Console gets what the guest writes to its serial port, from a goroutine
	// of the machine; nil discards it. A Console that fails, or takes nothing
	// for ten seconds, loses output: Warn is called once, and the error of Run
	// says how much was lost.
	Console io.Writer
	// Event, if not nil, is called with each byte that the guest writes to
	// protocol.EventPort, on the thread of the vCPU that wrote it.
	Event func(byte)
	// Devices are put on the PCI bus in this order. The machine closes them, also
	// if New fails. If the context of Run ends the guest, the machine also calls
	// the method Stop of those that have one, such as console.Console, so that
	// their Close doesn't wait for long.
	Devices []virtio.Device
	// KVM is the device node; "" is /dev/kvm.
	KVM string
	// Warn, if not nil, is called with errors that don't end the guest.
	Warn func(error)
	// Dumpable has New leave this process dumpable. KeepProcs has Run leave
	// GOMAXPROCS as it is. See "The process" in the package's documentation.
	Dumpable, KeepProcs bool
}

// Machine is a guest and what it runs on. One goroutine, locked to its thread,
// owns each vCPU. Whatever ends the guest sets the outcome once and kicks all
// vCPUs out of KVM.
type Machine struct {
	cfg    Config
	start  time.Time
	sys    *kvm.System
	ram    *memory.RAM
	attach *attach.Attachment
	vm     *kvm.VM
	cpus   []*vcpu
	ports  bus.Bus // I/O ports
	mmio   bus.Bus // guest-physical addresses that aren't RAM
	pci    *pci.Bus
	virtio []*virtio.Transport // of the first of cfg.Devices, in order
	uart   *serial.UART
	panics panicWatch
	pause  atomic.Pointer[pause]
	debug  *Debugger // nil without one

	userland atomic.Int64 // nanoseconds from start, 0 before
	ended    chan struct{}
	end      sync.Once
	outcome  Outcome
	stopped  bool // it didn't end by itself
	err      error

	detach    sync.Once
	detachErr error
	close     sync.Once
	closeErr  error
}

// New makes a machine and loads its guest. It tries the attach before there is a
// guest. The error of a host that lacks what this machine takes is
// memory.ErrUnavailable; its text says what to do. A failure leaves nothing
// behind.
func New(cfg Config) (*Machine, error) {
	cfg.Memory = cmp.Or(cfg.Memory, DefaultMemory)
	cfg.CPUs = cmp.Or(cfg.CPUs, 1)
	cfg.Backend = cmp.Or(cfg.Backend, memory.Secret)
	cfg.Attach = cmp.Or(cfg.Attach, attach.Auto)
	m := &Machine{cfg: cfg, start: time.Now(), ended: make(chan struct{})}
	if err := m.create(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func (m *Machine) create() (err error) {
	if m.cfg.Guest == nil {
		return errors.New("a machine needs a guest (Config.Guest)")
	}
	if m.cfg.CPUs < 1 || m.cfg.CPUs > boot.MaxCPUs {
		return fmt.Errorf("%d vCPUs: a guest has 1 to %d", m.cfg.CPUs, boot.MaxCPUs)
	}
	layout, err := memory.NewLayout(m.cfg.Memory)
	if err != nil {
		return err
	}
	if !m.cfg.Backend.Exposed() && !m.cfg.Dumpable {
		if err := undumpable.Now(); err != nil {
			return err
		}
	}
	if m.sys, err = kvm.Open(m.cfg.KVM); err != nil {
		return err
	}
	if m.vm, err = m.sys.CreateVM(); err != nil {
		return err
	}
	if m.ram, err = attach.NewRAM(m.vm, m.cfg.Backend, layout); err != nil {
		return err
	}
	m.cfg.Options.CPUs = m.cfg.CPUs
	if m.attach, err = attach.Open(m.sys, m.ram, m.cfg.Attach, m.cfg.Options); err != nil {
		return err
	}
	if err := m.setUpVM(); err != nil {
		return err
	}
	if err := m.createDevices(); err != nil {
		return err
	}
	if err := m.attachDevices(); err != nil {
		return err
	}
	if err := m.createCPUs(); err != nil {
		return err
	}
	return m.load()
}

// setUpVM gives the VM its interrupt controllers, its guard and its slots.
func (m *Machine) setUpVM() error {
	if err := m.vm.SetIdentityMapAddr(identityAddr); err != nil {
		return err
	}
	if err := m.vm.SetTSSAddr(tssAddr); err != nil {
		return err
	}
	if err := m.vm.CreateIRQChip(); err != nil {
		return err
	}
	if err := m.vm.CreatePIT2(); err != nil {
		return err
	}
	if err := protectHost(m.vm); err != nil {
		return err
	}
	if m.hidden() {
		if err := guardVM(m.vm); err != nil {
			return err
		}
	}
	for _, s := range m.attach.Slots() {
		if err := m.vm.SetSlot(s); err != nil {
			return err
		}
	}
	return nil
}

// hidden reports whether guest RAM is out of the host's direct map, where KVM
// must never be made to use it.
func (m *Machine) hidden() bool { return !m.ram.Backend().Exposed() }

func (m *Machine) createCPUs() error {
	supported, err := m.sys.SupportedCPUID()
	if err != nil {
		return err
	}
	if has, err := m.vm.Check(kvm.CapTSCDeadlineTimer); err != nil || has == 0 {
		return errors.Join(err, errors.New("KVM has no TSC-deadline timer (KVM_CAP_TSC_DEADLINE_TIMER): it needs Linux 3.12 or newer"))
	}
	for id := range m.cfg.CPUs {
		c, err := m.vm.CreateVCPU(id)
		if err != nil {
			return err
		}
		m.cpus = append(m.cpus, &vcpu{VCPU: c, machine: m})
		if err := c.SetCPUID(guestCPUID(supported, id, m.cfg.CPUs, m.hidden())); err != nil {
			return err
		}
		if m.hidden() {
			if err := guardCPU(m.vm, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Machine) load() error {
	tsc, err := m.cpus[0].TSCKHz()
	if err != nil {
		return err
	}
	states, err := m.cfg.Guest(m.attach.Guest(), m.cfg.CPUs, tsc)
	if err != nil {
		return err
	}
	for i, s := range states {
		if err := SetState(m.cpus[i].VCPU, s); err != nil {
			return err
		}
	}
	return nil
}

// Attachment returns how guest RAM is attached, and the stronger attaches that this
// host can't have.
func (m *Machine) Attachment() (attach.Method, []attach.Rejection) {
	return m.attach.Method, m.attach.Rejected
}

// Input returns the guest's serial port, as a keyboard has it. A Write blocks
// while the guest doesn't read, and fails with os.ErrClosed when it has ended.
func (m *Machine) Input() io.Writer { return input{m.uart} }

type input struct{ uart *serial.UART }

func (i input) Write(p []byte) (int, error) { return i.uart.Input(p) }

func (m *Machine) warn(err error) {
	if m.cfg.Warn != nil {
		m.cfg.Warn(err)
	}
}

// Close frees everything, in reverse order: devices and KVM let go of guest RAM
// before RAM is freed. It must not be called while Run runs.
func (m *Machine) Close() error {
	m.close.Do(func() {
		var errs []error
		closeAll := func(c io.Closer) { errs = append(errs, c.Close()) }
		errs = append(errs, m.closeDevices())
		if m.debug != nil {
			m.debug.close()
		}
		for _, c := range m.cpus {
			closeAll(c)
		}
		if m.uart != nil {
			closeAll(m.uart)
		}
		if m.vm != nil {
			closeAll(m.vm)
		}
		if m.attach != nil {
			closeAll(m.attach)
		}
		if m.ram != nil {
			closeAll(m.ram)
		}
		if m.sys != nil {
			closeAll(m.sys)
		}
		m.closeErr = errors.Join(errs...)
	})
	return m.closeErr
}
