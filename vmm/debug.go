package vmm

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"offmap/internal/process/unavailable"
	"offmap/kvm"
)

// Debugger stops a machine's vCPUs, reads and changes what they work on, and lets
// them go on. Between Stops and Resume all vCPUs are held outside the guest. The
// other methods are for that time, and fail at any other. They are safe for concurrent
// use, and fail after the machine's Close.
type Debugger struct {
	m        *Machine
	blockIRQ uint32 // kvm.DebugBlockIRQ, or 0 where KVM hasn't it
	int3     bool   // KVM ends KVM_RUN at an INT3
	stops    chan Stop
	gone     chan struct{} // closed with the machine

	mu       sync.Mutex
	attached bool // or the guest waits for its first instruction
	running  bool // a vCPU may be in the guest
	closed   bool // the machine is
	stopping bool // running, and all have been asked to stop
	cause    Stop // for that
	cpus     []debugCPU
	software []patch
	hardware [4]Breakpoint // in this order in the debug registers; Kind 0 is none
}

// debugCPU is what the debugger wants of a vCPU.
type debugCPU struct {
	action Action
	resume chan struct{} // closed: look at action again
	held   bool
	// watch is a watchpoint's stop that came together with another vCPU's stop.
	// Other stops need not be kept: the vCPU comes to a breakpoint again.
	watch *Stop
}

// Action is what a vCPU does when the guest goes on.
type Action int

const (
	Hold Action = iota // it stays where it is
	Step               // it executes one instruction
	Continue
)

// StopReason is why the vCPUs have stopped.
type StopReason int

const (
	Interrupted StopReason = iota // Interrupt was called, or the guest is at its first instruction
	Stepped                       // one instruction was executed
	AtSoftware                    // before the instruction of a software breakpoint
	AtHardware                    // before the instruction of a hardware breakpoint
	AtWatch                       // after an instruction that a watchpoint was set for
)

// Stop says why all vCPUs have stopped.
type Stop struct {
	Reason StopReason
	CPU    int        // number of the vCPU that has caused it
	At     Breakpoint // AtWatch: the watchpoint
}

// errRunning is the error of a method that needs the vCPUs held.
var errRunning = errors.New("the guest is running: only a stopped guest can be looked at")

// Debug returns a debugger of the guest. It is called once, before Run: then every
// vCPU waits at its first instruction. The error is memory.ErrUnavailable where KVM
// can't debug a guest.
func (m *Machine) Debug() (*Debugger, error) {
	flags, err := m.sys.Check(kvm.CapSetGuestDebug2)
	if err != nil {
		return nil, err
	}
	const needed = kvm.DebugEnable | kvm.DebugSingleStep | kvm.DebugUseSWBP | kvm.DebugUseHWBP | kvm.DebugInjectDB | kvm.DebugInjectBP
	if uint32(flags)&needed != needed {
		return nil, fmt.Errorf("%w: this KVM can't debug guests (KVM_CAP_SET_GUEST_DEBUG2 is 0x%x): it needs Linux 5.13 or newer", unavailable.Err, flags)
	}
	traps, err := trapsINT3(m.cfg.KVM)
	if err != nil {
		return nil, err
	}
	d := &Debugger{
		m: m, blockIRQ: uint32(flags) & kvm.DebugBlockIRQ, int3: traps, stops: make(chan Stop, 1), gone: make(chan struct{}),
		attached: true, running: true, stopping: true,
		cpus: make([]debugCPU, len(m.cpus)),
	}
	for i := range d.cpus {
		d.cpus[i].resume = make(chan struct{})
	}
	m.debug = d
	return d, nil
}

// CPUs returns the number of vCPUs.
func (d *Debugger) CPUs() int { return len(d.cpus) }

// Stops returns the channel that gets a Stop each time that all vCPUs are held.
func (d *Debugger) Stops() <-chan Stop { return d.stops }

// Ended is closed when the guest has ended.
func (d *Debugger) Ended() <-chan struct{} { return d.m.ended }

// Outcome returns how the guest has ended, when it has.
func (d *Debugger) Outcome() Outcome {
	<-d.m.ended
	return d.m.outcome
}

// Kill ends the guest.
func (d *Debugger) Kill() { d.m.Stop() }

// Attach begins to debug a guest that a Detach has left alone, and has its vCPUs stop.
// At the guest's start they have stopped already.
func (d *Debugger) Attach() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.attached {
		return
	}
	d.attached = true
	// The look at a guest that sleeps wants to hold the vCPUs too.
	if p := d.m.pause.Load(); p != nil {
		p.end()
	}
	d.stop(Stop{Reason: Interrupted})
}

// Interrupt has all vCPUs stop. A vCPU whose output nobody takes stops late.
func (d *Debugger) Interrupt() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running {
		d.stop(Stop{Reason: Interrupted})
	}
}

// Detach removes all breakpoints, and lets the guest go on as if there were no
// debugger.
func (d *Debugger) Detach() error {
	d.Interrupt()
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.running && !d.closed {
		d.mu.Unlock()
		select {
		case <-d.stops:
			d.mu.Lock()
		case <-d.m.ended:
			d.mu.Lock()
			return nil
		case <-d.gone: // the guest has never run
			d.mu.Lock()
			return nil
		}
	}
	if d.closed {
		return nil
	}
	d.forget()
	errs := d.clear()
	d.attached = false
	for i := range d.cpus {
		d.cpus[i].watch = nil
	}
	all := slices.Repeat([]Action{Continue}, len(d.cpus))
	errs = errors.Join(errs, d.arm(all))
	d.release(all) // with an error too: a guest that KVM can't carry on has to find out
	return errs
}

// Resume lets the vCPUs go on, each as actions says; there has to be one for each.
func (d *Debugger) Resume(actions []Action) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running || d.closed {
		return errRunning
	}
	d.forget()
	for i := range d.cpus {
		c := &d.cpus[i]
		if actions[i] == Hold || c.watch == nil {
			continue
		}
		s := *c.watch
		c.watch = nil
		if d.slot(s.At) >= 0 {
			d.stops <- s
			return nil
		}
	}
	if err := d.arm(actions); err != nil {
		return err
	}
	d.release(actions)
	return nil
}

// forget drops a stop that nobody has taken, so that there is room for the next.
func (d *Debugger) forget() {
	select {
	case <-d.stops:
	default:
	}
}

// arm sets the vCPUs' debug registers.
func (d *Debugger) arm(actions []Action) error {
	var errs []error
	for i, c := range d.m.cpus {
		errs = append(errs, c.SetGuestDebug(d.control(actions[i])))
	}
	return errors.Join(errs...)
}

// release lets vCPUs go on.
func (d *Debugger) release(actions []Action) {
	d.running = true
	for i := range d.cpus {
		c := &d.cpus[i]
		if c.action = actions[i]; c.action != Hold {
			c.held = false
			close(c.resume)
		}
	}
}

// stop asks all vCPUs to stop. The first cause is the one that is told.
func (d *Debugger) stop(cause Stop) {
	if d.stopping || d.closed {
		return
	}
	d.stopping, d.cause = true, cause
	for i := range d.cpus {
		c := &d.cpus[i]
		if c.action == Hold {
			continue
		}
		c.action = Hold
		c.resume = make(chan struct{})
		d.m.cpus[i].kick()
	}
	d.settle()
}

// settle tells the stop when the last vCPU is held.
func (d *Debugger) settle() {
	if !d.stopping {
		return
	}
	for i := range d.cpus {
		if !d.cpus[i].held {
			return
		}
	}
	d.stopping, d.running = false, false
	d.stops <- d.cause
}

// close is called before the vCPUs are closed.
func (d *Debugger) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		close(d.gone)
	}
}

// busy reports whether the debugger has the say over the vCPUs.
func (d *Debugger) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attached
}
