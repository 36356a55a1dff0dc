package vmm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"offmap/kvm"
	"offmap/memory/attach"
	"offmap/vmm/virtio"
)

// Result describes a run.
type Result struct {
	Outcome Outcome
	// ToUserland is the time from New to protocol.EventUserland, 0 without one.
	ToUserland time.Duration
	// Usage is that of RAM. Exposed and ExposedPeak also have what devices hold of
	// the guest's data in ordinary memory (virtio.Stats). The peak is a bound: that
	// of RAM and those of the devices, as if all had been at the same time.
	attach.Usage
	// Faults are those that the window's pager answered, nil for other attaches.
	Faults *attach.Faults
	// Doing is what each vCPU of a guest that was stopped was doing. It is empty of
	// one that ended by itself, or if KVM doesn't say.
	Doing []Doing
	// Exits counts the returns of KVM_RUN by kind, over all vCPUs.
	Exits map[string]uint64
	// Devices are the statistics of Config.Devices, in their order.
	Devices []virtio.Stats
	// Emulated is how many of the guest's instructions KVM interpreted, over all
	// vCPUs. Every KVM interprets some, such as accesses to devices. It is nil
	// where KVM has no such counter (before Linux 5.14), and of a VM that KVM has
	// declared dead.
	Emulated *uint64
}

// Run runs the guest until it ends, Stop is called or ctx is done, and returns when
// every vCPU has left the guest. If ctx ended the guest, the error wraps the
// context's cause. The result is valid with an error too.
func (m *Machine) Run(ctx context.Context) (Result, error) {
	if !m.cfg.KeepProcs {
		busy := len(m.cpus)
		if len(m.cfg.Devices) > 0 {
			busy++ // one that answers a request
		}
		leaveOneIdle(busy)
	}
	if ctx.Err() != nil {
		// Here, because a guest may end before the select below looks.
		m.stop(context.Cause(ctx))
	}
	var wg sync.WaitGroup
	for _, c := range m.cpus {
		wg.Go(c.loop)
	}
	wg.Go(m.watch)
	// Output that the guest has left may take long to write. Whoever ends the run
	// needn't wait for it.
	defer context.AfterFunc(ctx, m.stopOutput)()
	select {
	case <-ctx.Done():
		m.stop(context.Cause(ctx))
	case <-m.attach.Failed():
		m.finish(Outcome{Reason: Crash}, m.attach.Err())
	case <-m.ended:
	}
	wg.Wait()
	// Who has ended the guest may still be kicking vCPUs, which the caller will close.
	m.end.Do(func() {})
	// What is left of the guest's output, before the caller says how it ended.
	err := errors.Join(m.err, m.closeDevices(), m.uart.Close())
	r := Result{
		Outcome:    m.outcome,
		ToUserland: time.Duration(m.userland.Load()),
		Exits:      make(map[string]uint64),
	}
	for _, d := range m.cfg.Devices {
		r.Devices = append(r.Devices, d.Stats())
	}
	for _, c := range m.cpus {
		for reason := range c.exits {
			if n := c.exits[reason].Load(); n > 0 {
				r.Exits[kvm.Reason(reason).String()] += n
			}
		}
	}
	if m.stopped {
		r.Doing = m.doing()
	}
	r.Faults = m.attach.Faults()
	var uerr, serr error
	r.Usage, uerr = m.attach.Usage()
	for _, d := range r.Devices {
		r.Exposed += d.Exposed
		r.ExposedPeak += d.ExposedPeak
	}
	r.Emulated, serr = m.emulated()
	return r, errors.Join(err, uerr, serr)
}

// leaveOneIdle raises GOMAXPROCS, for good, to more than the number of goroutines that
// are busy: each vCPU in KVM_RUN holds one of Go's processors. On a host with one CPU an
// exit cost twice as much when no other processor was idle. The likely cause is the
// runtime's monitor, which then takes processors back sooner (package yield). A request
// that a device gives to another goroutine took 0.25 ms with an idle processor, and
// 0.9 ms without.
func leaveOneIdle(busy int) {
	if runtime.GOMAXPROCS(0) <= busy {
		runtime.GOMAXPROCS(busy + 1)
	}
}

// emulated adds up the vCPUs' counters of emulated instructions, when their
// loops have ended.
func (m *Machine) emulated() (*uint64, error) {
	var n uint64
	for _, c := range m.cpus {
		s, err := c.Stats()
		if errors.Is(err, errors.ErrUnsupported) || dead(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("vCPU %d: %w", c.ID(), err)
		}
		n += s["insn_emulation"]
	}
	return &n, nil
}
