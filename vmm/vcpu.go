package vmm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
	"offmap/internal/process/yield"
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
// RequestExit alone doesn't stop a guest that spins, and a signal alone is lost if
// it comes just before KVM_RUN. Together they leave no gap. SIGURG needs no handler,
// since the Go runtime has one for preemption.
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

// processSignals are the signals that other processes and the kernel send to a
// process as a whole.
var processSignals = []unix.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGVTALRM,
	unix.SIGXCPU, unix.SIGIO, unix.SIGPWR, unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH, unix.SIGCHLD,
}

// keepSignalsOut has the kernel deliver these signals to other threads. This one
// would have to wait for a processor to handle them, maybe behind hundreds of
// vCPUs; a thread that sleeps is woken at once.
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
	if d := c.machine.debug; d != nil {
		d.hold(c)
	}
	var yield yield.Ticker
	for n := 0; c.turn(); n++ {
		if n%8 == 0 { // a look at the clock costs some 40 ns, and an exit may take no more than 1 µs
			yield.Tick()
		}
	}
}

// turn runs the guest until its next exit, and handles that. It reports whether
// there is a next turn. It doesn't allocate, so that an exit costs little more than
// the kernel's part of it (TestTurnAllocates, and scenario exits of package bench).
//
// Run enters the kernel through Go's scheduler, which costs some tens of
// nanoseconds. In return a guest that stays inside holds nobody up: the garbage
// collector doesn't wait for the thread, and other goroutines get its processor.
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
			// A vCPU that waited for its start-up IPI has been woken.
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

// handle handles one exit.
func (c *vcpu) handle(x *kvm.Exit) {
	m := c.machine
	if x.Reason == kvm.ExitDebug && m.debug != nil {
		m.debug.trap(c, x)
		return
	}
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
		if x.Write {
			m.mmio.Write(x.Addr, x.Data)
		} else {
			m.mmio.Read(x.Addr, x.Data)
		}
	case kvm.ExitShutdown:
		m.finish(m.tripleFault(c.where()), nil)
	case kvm.ExitInternalError:
		m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("KVM internal error, suberror %d%s", x.Code, c.where())}, nil)
	case kvm.ExitFailEntry:
		m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("the CPU refused to enter the guest, hardware reason 0x%x%s", x.Code, c.where())}, nil)
	case kvm.ExitBusLock:
		// Each of these accesses stops all CPUs of the host. A guest that means no harm
		// makes few.
		time.Sleep(time.Millisecond)
	case kvm.ExitNotify:
		if x.Code&kvm.NotifyContextInvalid != 0 {
			m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("the guest kept the CPU without a window for interrupts, and its state is lost%s", c.where())}, nil)
		}
	case kvm.ExitIntr, kvm.ExitIRQWindow:
	default:
		m.finish(Outcome{Reason: Crash, Detail: fmt.Sprintf("KVM exit %s, which this machine doesn't ask for%s", x.Reason, c.where())}, nil)
	}
}

// halt has KVM halt the vCPU when it runs next. HaltPort acts on the vCPU that
// writes it, so it isn't a device on the bus.
func (c *vcpu) halt() {
	if err := c.SetMPState(kvm.MPHalted); err != nil {
		c.machine.finish(Outcome{Reason: Crash}, err)
	}
}

// where names the vCPU, and its instruction if KVM knows it. After a triple fault on
// AMD, KVM has reset the vCPU (shutdown_interception, arch/x86/kvm/svm/svm.c), which
// is then at the reset vector.
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

// dead reports whether a call failed because KVM has declared the VM dead
// (kvm_vm_dead and KVM_BUG_ON in the kernel's kvm_host.h), after which it refuses
// every call for it. A guest can cause that.
func dead(err error) bool { return errors.Is(err, unix.EIO) }

// kicked handles a Run that was interrupted.
func (c *vcpu) kicked() {
	// This comes first, so that a later kick interrupts Run again. The next turn
	// sees whether the machine has ended.
	c.ClearExit()
	if p := c.machine.pause.Load(); p != nil {
		p.hold(c)
	}
	if d := c.machine.debug; d != nil {
		d.hold(c)
	}
}

// explain returns the cause of a failed KVM_RUN, as far as it is known.
func (m *Machine) explain(err error) error {
	if failed := m.attach.Err(); failed != nil {
		return failed
	}
	if errors.Is(err, unix.EFAULT) && m.hidden() {
		return fmt.Errorf("%w: the kernel gave no page of secret memory (out of memory, or RLIMIT_MEMLOCK used up by this user's other guests)", err)
	}
	return err
}
