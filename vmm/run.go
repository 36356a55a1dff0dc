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
)

// Result is what a run left behind to report.
type Result struct {
	Outcome Outcome
	// ToUserland is the time from New to the guest's word that its userland
	// runs; 0 if it gave none.
	ToUserland time.Duration
	attach.Usage
	// Faults is nil for an attach that has none of its own.
	Faults *attach.Faults
	// Exits counts the returns of KVM_RUN by kind, over all vCPUs.
	Exits map[string]uint64
	// Emulated is how many of the guest's instructions KVM interpreted instead
	// of having the processor run them, over all vCPUs. Some are on every
	// KVM, such as accesses to devices. It is nil before Linux 5.14, which
	// doesn't say, and of a VM that KVM has declared dead.
	Emulated *uint64
}

// Run runs the guest until it ends, Stop is called or ctx is done; the last
// returns the context's cause as an error beside the result. It returns when
// every vCPU has left the guest.
func (m *Machine) Run(ctx context.Context) (Result, error) {
	if !m.cfg.KeepProcs {
		leaveOneIdle(len(m.cpus))
	}
	var wg sync.WaitGroup
	for _, c := range m.cpus {
		wg.Go(c.loop)
	}
	wg.Go(m.watch)
	// The guest's last words may take long; whoever ends the run needn't wait.
	defer context.AfterFunc(ctx, m.uart.Stop)()
	select {
	case <-ctx.Done():
		m.finish(m.stopOutcome(), context.Cause(ctx))
	case <-m.attach.Failed():
		m.finish(Outcome{Reason: Crash}, m.attach.Err())
	case <-m.ended:
	}
	wg.Wait()
	// The guest's last words, before the caller says how it ended.
	err := errors.Join(m.err, m.uart.Close())
	r := Result{
		Outcome:    m.outcome,
		ToUserland: time.Duration(m.userland.Load()),
		Exits:      make(map[string]uint64),
	}
	for _, c := range m.cpus {
		for reason := range c.exits {
			if n := c.exits[reason].Load(); n > 0 {
				r.Exits[kvm.Reason(reason).String()] += n
			}
		}
	}
	r.Faults = m.attach.Faults()
	var uerr, serr error
	r.Usage, uerr = m.attach.Usage()
	r.Emulated, serr = m.emulated()
	return r, errors.Join(err, uerr, serr)
}

// leaveOneIdle gives this process more of Go's processors (GOMAXPROCS) than
// there are vCPUs. A vCPU in KVM_RUN holds one; in the lab, with one CPU, an exit
// cost twice as much where none besides was idle. The likely cause is the
// runtime's monitor: it then looks every 20 µs which processor it can take back
// from a system call (runtime.sysmon, retake).
func leaveOneIdle(cpus int) {
	if runtime.GOMAXPROCS(0) <= cpus {
		runtime.GOMAXPROCS(cpus + 1)
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
