package vmm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
	"offmap/kvm"
)

// maxReason bounds the exit counters; KVM's exit reasons are small numbers.
const maxReason = 64

// vcpu is a vCPU and the loop that runs it.
type vcpu struct {
	*kvm.VCPU
	machine *Machine
	exits   [maxReason]atomic.Uint64 // by reason; the loop counts, Look reads

	mu  sync.Mutex
	tid int // of the thread in the loop, 0 outside it
}

// kick makes the loop leave the guest and look at the machine's state.
// RequestExit alone doesn't stop a spinning guest, and a signal alone can come
// just before KVM_RUN; together they leave no gap. SIGURG is the signal that
// Go programs get for preemption anyway: it needs no handler.
func (c *vcpu) kick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.RequestExit()
	if c.tid != 0 {
		// It fails only for a thread that is gone, and then there is
		// nothing to stop.
		_ = unix.Tgkill(os.Getpid(), c.tid, unix.SIGURG)
	}
}

// processSignals are those that others send to the process.
var processSignals = []unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM,
	unix.SIGXCPU, unix.SIGIO, unix.SIGPWR, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH, unix.SIGCHLD,
}

// keepSignalsOut has the kernel deliver these to other threads than this one. A
// thread that is in the guest has to wait for a processor before it can take a
// signal, behind hundreds of vCPUs maybe; one that sleeps is woken.
func keepSignalsOut() (restore func()) {
	var mask, old unix.Sigset_t
	for _, s := range processSignals {
		mask.Val[0] |= 1 << (s - 1)
	}
	// With valid arguments it can't fail.
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &mask, &old)
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }
}

func (c *vcpu) setThread(tid int) {
	c.mu.Lock()
	c.tid = tid
	c.mu.Unlock()
}

// loop runs the vCPU until the machine has ended.
func (c *vcpu) loop() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer keepSignalsOut()()
	c.setThread(unix.Gettid())
	defer c.setThread(0)
	for c.turn() {
	}
}

// turn runs the guest until its next exit, and answers that. It returns whether
// there is a next turn. It doesn't allocate: what an exit costs is the kernel's
// part of it and little else (TestTurnAllocates, and scenario exits of package
// bench).
//
// The system call in Run is one that Go's scheduler knows of. Its few tens of
// nanoseconds buy that a guest which stays inside holds up nobody: the garbage
// collector need not wait for the thread, and others run on its processor.
func (c *vcpu) turn() bool {
	m := c.machine
	select {
	case <-m.ended:
		return false
	default:
	}
	exit, err := c.Run()
	if err != nil {
		switch {
		case errors.Is(err, unix.EINTR):
			c.kicked()
			return true
		case errors.Is(err, unix.EAGAIN):
			// So KVM says that a vCPU which waited for its start-up
			// IPI has been woken.
			return true
		case dead(err):
			m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("KVM can't carry this guest on after what vCPU %d did, and has declared it dead", c.ID())}, nil)
			return false
		}
		m.finish(Outcome{Reason: Crash}, m.explain(err))
		return false
	}
	c.exits[min(exit.Reason, maxReason-1)].Add(1)
	c.handle(exit)
	return true
}

// handle answers one exit.
func (c *vcpu) handle(x *kvm.Exit) {
	m := c.machine
	switch x.Reason {
	case kvm.ExitIO:
		// A string instruction brings several accesses at once.
		for p := x.Data; len(p) > 0; p = p[x.Size:] {
			if x.Write {
				m.ports.Write(x.Addr, p[:x.Size])
				if x.Addr == protocol.HaltPort {
					c.halt()
				}
			} else {
				m.ports.Read(x.Addr, p[:x.Size])
			}
		}
	case kvm.ExitMMIO:
		// No device has registers in memory. As on a PC, reads there give all
		// ones, and writes are lost.
		if !x.Write {
			for i := range x.Data {
				x.Data[i] = 0xff
			}
		}
	case kvm.ExitShutdown:
		m.finish(m.tripleFault(c.where()), nil)
	case kvm.ExitInternalError:
		m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("KVM internal error, suberror %d%s", x.Code, c.where())}, nil)
	case kvm.ExitFailEntry:
		m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("the CPU refused to enter the guest, hardware reason 0x%x%s", x.Code, c.where())}, nil)
	case kvm.ExitIntr, kvm.ExitIRQWindow:
	default:
		m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("KVM exit %s, which this machine doesn't ask for%s", x.Reason, c.where())}, nil)
	}
}

// halt has the vCPU halted when it runs next. This port is the vCPU's own, so it
// is no device's.
func (c *vcpu) halt() {
	if err := c.SetMPState(kvm.MPHalted); err != nil {
		c.machine.finish(Outcome{Reason: Crash}, err)
	}
}

// where says which vCPU it is, and at which instruction if KVM knows. After a
// triple fault on AMD it doesn't: it has reset the vCPU (shutdown_interception,
// arch/x86/kvm/svm/svm.c), which is then at the reset vector.
func (c *vcpu) where() string {
	name := fmt.Sprintf(" of vCPU %d", c.ID())
	r, err := c.Regs()
	if err != nil {
		return name
	}
	if s, err := c.SRegs(); err != nil || r.RIP == resetRIP && s.CS.Base == resetCS {
		return name
	}
	return fmt.Sprintf("%s at RIP 0x%x", name, r.RIP)
}

// Where a processor starts after a reset, Intel SDM vol. 3 §10.1.4.
const (
	resetRIP = 0xfff0
	resetCS  = 0xffff0000
)

// dead reports whether a call failed because KVM has declared the VM dead, as it
// does when it can't carry it on (kvm_vm_dead, KVM_BUG_ON in the kernel's
// kvm_host.h): it then refuses every call for it. A guest can have it do so.
func dead(err error) bool { return errors.Is(err, unix.EIO) }

// kicked answers a Run that was interrupted.
func (c *vcpu) kicked() {
	// First this: what is asked for after it has Run interrupted again. The
	// end of the machine is seen at the next turn.
	c.ClearExit()
	if p := c.machine.pause.Load(); p != nil {
		p.hold(c)
	}
}

// explain adds to a failed KVM_RUN what a user can do about it.
func (m *Machine) explain(err error) error {
	if failed := m.attach.Err(); failed != nil {
		return failed
	}
	if errors.Is(err, unix.EFAULT) && m.hidden() {
		return fmt.Errorf("%w: the kernel gave no page of secret memory (out of memory, or RLIMIT_MEMLOCK used up by this user's other guests)", err)
	}
	return err
}
