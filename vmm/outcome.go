package vmm

// Reason is how a guest ended.
type Reason string

// How a guest can end.
const (
	PowerOff Reason = "poweroff" // the guest powered off; Code is its exit code
	Reset    Reason = "reset"    // the guest asked for a reset
	Crash    Reason = "crash"    // triple fault, or KVM gave up on it
	Panic    Reason = "panic"    // the guest's kernel panicked
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
	m.finish(Outcome{Reason: Stopped}, nil)
	m.uart.Stop()
}

// resetOutcome tells a reset after a kernel panic, which is how Linux ends
// with panic=-1, from one that was asked for.
func (m *Machine) resetOutcome() Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	return Outcome{Reason: Reset}
}
