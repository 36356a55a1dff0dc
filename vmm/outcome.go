package vmm

// Reason is how a guest ended.
type Reason string

// How a guest can end.
const (
	PowerOff Reason = "poweroff" // the guest powered off; Code is its exit code
	Reset    Reason = "reset"    // the guest asked for a reset
	Crash    Reason = "crash"    // triple fault, halted for good, or KVM gave up on it
	Panic    Reason = "panic"    // the guest's kernel panicked
	Halt     Reason = "halt"     // the guest halted, and said so
	Stopped  Reason = "stopped"  // Stop was called
)

// Outcome is how a guest ended. Code is the guest's own exit code, 0 to 255,
// where it gave one; Detail is for people.
type Outcome struct {
	Reason Reason
	Code   int
	Detail string
}

// finish ends the guest: the first call decides the outcome. It may be called
// from any goroutine, device callbacks on a vCPU's thread included.
func (m *Machine) finish(o Outcome, err error) {
	m.end.Do(func() {
		m.outcome, m.err = o, err
		close(m.ended)
		for _, c := range m.cpus {
			c.kick()
		}
	})
}

// Stop ends the guest from outside, and if it has ended already, what Run still
// waits for. It doesn't wait for Run to return. Callbacks may call it.
func (m *Machine) Stop() {
	m.finish(m.stopOutcome(), nil)
	m.uart.Stop()
}

// stopOutcome is that of a guest which was still running, and which may have
// panicked all the same: without panic= Linux stays as it is.
func (m *Machine) stopOutcome() Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	return Outcome{Reason: Stopped}
}

// resetOutcome tells a reset after a kernel panic, which is how Linux ends
// with panic=-1, from one that was asked for.
func (m *Machine) resetOutcome() Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	return Outcome{Reason: Reset}
}

// tripleFault tells a reset by triple fault, which is Linux's reboot=t and what
// it falls back to, from a crash.
func (m *Machine) tripleFault(where string) Outcome {
	o := m.resetOutcome()
	if o.Reason == Reset && !m.panics.said(wordRestart) {
		o = Outcome{Reason: Crash, Detail: "triple fault" + where}
	}
	return o
}
