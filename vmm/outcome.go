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

// finish ends the guest. The first call decides the outcome. Any goroutine may call
// it, device callbacks on a vCPU's thread included.
func (m *Machine) finish(o Outcome, err error) { m.finishAs(o, err, false) }

func (m *Machine) finishAs(o Outcome, err error, stopped bool) {
	m.end.Do(func() {
		m.outcome, m.err, m.stopped = o, err, stopped
		close(m.ended)
		for _, c := range m.cpus {
			c.kick()
		}
	})
}

// Stop ends the guest. If the guest has ended already, it ends Run's wait for a
// Console that takes no output. It doesn't wait for Run to return. Callbacks may
// call it.
func (m *Machine) Stop() {
	m.stop(nil)
	m.stopOutput()
}

// stop ends a guest that still runs.
func (m *Machine) stop(err error) {
	m.finishAs(m.stopOutcome(), err, true)
}

// stopOutcome is the outcome of a guest that was still running. It may have panicked
// before: without panic= Linux then runs on in an endless loop.
func (m *Machine) stopOutcome() Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	return Outcome{Reason: Stopped}
}

// resetOutcome tells a reset after a kernel panic, which is what Linux does with
// panic=-1, from any other.
func (m *Machine) resetOutcome() Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	return Outcome{Reason: Reset}
}

// tripleFault tells a reset by triple fault (Linux's reboot=t, and its last resort)
// from a crash.
func (m *Machine) tripleFault(where string) Outcome {
	o := m.resetOutcome()
	if o.Reason == Reset && !m.panics.said(wordRestart) {
		o = Outcome{Reason: Crash, Detail: "triple fault" + where}
	}
	return o
}
