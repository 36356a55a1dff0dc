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

// With interrupt controllers in the kernel, KVM_RUN doesn't return at HLT. A guest
// that has halted for good then looks like an idle one. So when no vCPU's thread
// has run for a while, the machine stops all of them for a moment and asks KVM
// whether anything can wake one. A guest that runs is never disturbed.

// watchEvery is how long no vCPU has run before the machine looks why.
const watchEvery = 500 * time.Millisecond

// warnPanicked is how long a guest runs on after a panic before Config.Warn is told.
// A guest that restarts at once is gone by then.
const warnPanicked = 5 * time.Second

// watch ends a guest that sleeps for good, and warns of one that has panicked and
// runs on. It returns when the guest has ended.
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
		// An event that KVM was just about to deliver has shown by the second
		// time: a vCPU has then run, and halted once more.
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

// pause holds all vCPUs outside the guest. A vCPU that doesn't wait for an event
// ends the pause.
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

// asleep stops all vCPUs, if all wait for an event, and finds out whether one can
// come. If none can, it returns why, and how often each vCPU has halted.
func (m *Machine) asleep() (why string, halts []uint64) {
	p := &pause{held: make(chan struct{}), over: make(chan struct{})}
	p.missing.Store(int32(len(m.cpus)))
	m.pause.Store(p)
	defer p.end()
	defer m.pause.Store(nil)
	if m.debug != nil && m.debug.busy() {
		return "", nil
	}
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
	// A failed call doesn't end the guest. If the VM is dead, KVM_RUN fails too.
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

// haltOutcome tells a guest whose user halted it from one that can't go on.
func (m *Machine) haltOutcome(why string) Outcome {
	if line, ok := m.panics.seen(); ok {
		return Outcome{Reason: Panic, Detail: line}
	}
	if m.panics.said(wordHalt) {
		return Outcome{Reason: Halt}
	}
	return Outcome{Reason: Crash, Detail: why}
}
