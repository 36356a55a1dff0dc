package vmm

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// With KVM's interrupt controllers in the kernel, HLT never comes back to us: a
// guest that has halted for good looks like one that is idle. So where no vCPU's
// thread has run for a while, all of them are stopped for a moment, and it is
// read from KVM whether any can be woken at all. Who runs is never disturbed.

// watchEvery is how long no vCPU may have run before it is asked why.
const watchEvery = 500 * time.Millisecond

// warnPanicked is how long a guest may run after a panic before that is said.
// What restarts at once is gone by then.
const warnPanicked = 5 * time.Second

// watch ends a guest that sleeps for good, and says that a guest which has
// panicked stays as it is. It returns when the guest has ended.
func (m *Machine) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	ran := make([]time.Duration, len(m.cpus))
	var before []uint64 // instructions HLT of each vCPU, when all were last found asleep for good
	panicked := 0       // ticks
	for {
		select {
		case <-m.ended:
			return
		case <-tick.C:
		}
		if line, ok := m.panics.seen(); ok {
			if panicked++; panicked == int(warnPanicked/watchEvery) {
				m.warn(fmt.Errorf("the guest's kernel has panicked and hasn't restarted; with panic=0 it never does: %q", line))
			}
		}
		if m.ranSince(ran) {
			continue
		}
		why, halts := m.asleep()
		// What was on its way between two of KVM's steps shows by the second
		// time, at the latest by a vCPU that has run and halted again.
		if halts != nil && slices.Equal(halts, before) {
			m.finish(m.haltOutcome(why), nil)
			return
		}
		before = halts
	}
}

// ranSince reports whether a vCPU's thread has run since the times in last, and
// brings them up to date.
func (m *Machine) ranSince(last []time.Duration) (ran bool) {
	for i, c := range m.cpus {
		t := c.ranFor()
		ran = ran || t != last[i]
		last[i] = t
	}
	return ran
}

// ranFor is how long the vCPU's thread has run so far, the guest included.
func (c *vcpu) ranFor() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var t unix.Timespec
	if c.tid != 0 {
		// The clock of a thread, MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED) in
		// the kernel's posix-timers_types.h. It is there while the thread is.
		_ = unix.ClockGettime(int32(^c.tid<<3|6), &t)
	}
	return time.Duration(t.Nano())
}

// pause holds all vCPUs outside the guest, unless one of them isn't waiting for
// an event: that one calls it off.
type pause struct {
	missing atomic.Int32  // vCPUs
	held    chan struct{} // closed when none is
	over    chan struct{} // closed: run on
	once    sync.Once
}

func (p *pause) end() { p.once.Do(func() { close(p.over) }) }

// hold is called by the vCPU's loop, outside the guest.
func (p *pause) hold(c *vcpu) {
	select {
	case <-p.over:
		return
	default:
	}
	if s, err := c.MPState(); err != nil || !waiting(s) {
		p.end()
		return
	}
	if p.missing.Add(-1) == 0 {
		close(p.held)
	}
	select {
	case <-p.over:
	case <-c.machine.ended:
	}
}

// asleep stops all vCPUs, if all wait for an event, and reads whether one can
// come. If none can, it returns why, and how often each vCPU has halted.
func (m *Machine) asleep() (why string, halts []uint64) {
	p := &pause{held: make(chan struct{}), over: make(chan struct{})}
	p.missing.Store(int32(len(m.cpus)))
	m.pause.Store(p)
	defer p.end()
	defer m.pause.Store(nil)
	for _, c := range m.cpus {
		c.kick()
	}
	// A vCPU that waits for a page of the window comes when it has it.
	select {
	case <-p.held:
	case <-p.over:
		return "", nil
	case <-m.ended:
		return "", nil
	}
	// A call that fails is no reason to end the guest. If the VM is dead, KVM_RUN
	// says so.
	s, err := m.sources()
	if err != nil {
		return "", nil
	}
	cpus := make([]sleeper, len(m.cpus))
	for i, c := range m.cpus {
		if cpus[i], err = c.sleeper(); err != nil {
			return "", nil
		}
	}
	why, ok := forever(cpus, s)
	if !ok {
		return "", nil
	}
	halts = make([]uint64, len(m.cpus))
	for i, c := range m.cpus {
		stats, err := c.Stats()
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return "", nil
		}
		halts[i] = stats["halt_exits"]
	}
	return why, halts
}

// haltOutcome tells a guest that halted as it was told to from one that
// couldn't go on.
func (m *Machine) haltOutcome(why string) Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	if m.panics.said(wordHalt) {
		return Outcome{Reason: Halt}
	}
	return Outcome{Reason: Crash, Detail: why}
}
