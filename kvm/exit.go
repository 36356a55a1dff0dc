package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Reason is why KVM_RUN returned (KVM_EXIT_*, api.rst 5).
type Reason uint32

// The exit reasons that an x86 VMM with in-kernel interrupt controllers sees.
const (
	ExitUnknown       Reason = 0
	ExitException     Reason = 1
	ExitIO            Reason = 2
	ExitHypercall     Reason = 3
	ExitDebug         Reason = 4
	ExitHLT           Reason = 5
	ExitMMIO          Reason = 6
	ExitIRQWindow     Reason = 7
	ExitShutdown      Reason = 8
	ExitFailEntry     Reason = 9
	ExitIntr          Reason = 10
	ExitInternalError Reason = 17
	ExitSystemEvent   Reason = 24
	ExitBusLock       Reason = 33
	ExitNotify        Reason = 37
	ExitMemoryFault   Reason = 39
)

var reasonNames = map[Reason]string{
	ExitUnknown: "unknown", ExitException: "exception", ExitIO: "io", ExitHypercall: "hypercall",
	ExitDebug: "debug", ExitHLT: "hlt", ExitMMIO: "mmio", ExitIRQWindow: "irq_window",
	ExitShutdown: "shutdown", ExitFailEntry: "fail_entry", ExitIntr: "intr",
	ExitInternalError: "internal_error", ExitSystemEvent: "system_event", ExitBusLock: "bus_lock", ExitNotify: "notify", ExitMemoryFault: "memory_fault",
}

// String is the reason's name in lower case, as reports have it.
func (r Reason) String() string {
	if s, ok := reasonNames[r]; ok {
		return s
	}
	return fmt.Sprintf("exit_%d", uint32(r))
}

// Exit is one return of KVM_RUN, decoded. Which fields are set depends on
// Reason; the rest are zero.
type Exit struct {
	Reason Reason

	// ExitIO and ExitMMIO: an access of Size bytes, by the guest, at port
	// or guest-physical address Addr. A string instruction's ExitIO has
	// several accesses, Data holding all of them one after the other. For
	// a write Data is what the guest wrote; for a read it is where the
	// answer goes, which KVM takes at the next Run. Data is valid until
	// then.
	Addr  uint64
	Size  int
	Write bool
	Data  []byte

	// ExitFailEntry: the hardware's reason. ExitInternalError: the
	// suberror. ExitSystemEvent: the type. ExitMemoryFault and ExitNotify: the flags.
	// ExitDebug: the exception's vector, at linear address Addr.
	Code uint64

	// ExitDebug: what a #DB would have put into the guest's DR6.
	DR6 uint64

	// ExitMemoryFault: the guest-physical range that KVM couldn't resolve
	// (Addr) and its size in bytes.
	Length uint64
}

// FaultError is a guest access that KVM couldn't resolve: KVM_RUN failed with
// EFAULT. Known says whether KVM named the address (CapMemoryFaultInfo).
type FaultError struct {
	VCPU  int
	Known bool
	GPA   uint64
	Size  uint64
}

func (e *FaultError) Error() string {
	if !e.Known {
		return fmt.Sprintf("KVM_RUN of vCPU %d: KVM can't use the guest memory that was accessed: %v", e.VCPU, unix.EFAULT)
	}
	return fmt.Sprintf("KVM_RUN of vCPU %d: KVM can't use guest memory at 0x%x: %v", e.VCPU, e.GPA, unix.EFAULT)
}

// Unwrap makes errors.Is(err, unix.EFAULT) true.
func (e *FaultError) Unwrap() error { return unix.EFAULT }

// Run enters the guest and returns its next exit (api.rst 4.10). A signal or
// RequestExit returns unix.EINTR. EFAULT becomes a *FaultError. The returned
// Exit is the vCPU's own and good until the next Run; Run doesn't allocate.
func (c *VCPU) Run() (*Exit, error) {
	if _, err := ioctl(c.fd.n, kvmRun, 0); err != nil {
		return nil, c.runError(err)
	}
	return c.decode(), nil
}

func (c *VCPU) runError(err error) error {
	switch {
	case errors.Is(err, unix.EINTR):
		return unix.EINTR
	case errors.Is(err, unix.EFAULT):
		f := &FaultError{VCPU: c.id}
		// With any other errno than EFAULT the exit reason is stale
		// (api.rst 5, KVM_EXIT_MEMORY_FAULT).
		if x := c.decode(); x.Reason == ExitMemoryFault {
			f.Known, f.GPA, f.Size = true, x.Addr, x.Length
		}
		return f
	}
	return c.call("KVM_RUN", err)
}

// decode reads struct kvm_run. KVM wrote it, so its fields are trusted, but
// Data is sliced from the mapping with its bounds checked all the same.
func (c *VCPU) decode() *Exit {
	le := binary.LittleEndian
	x := &c.exit
	*x = Exit{Reason: Reason(le.Uint32(c.run[runExitReason:]))}
	u := c.run[runUnion:]
	switch x.Reason {
	case ExitIO:
		x.Write = u[ioDirection] == 1
		x.Size = int(u[ioSize])
		x.Addr = uint64(le.Uint16(u[ioPort:]))
		off := le.Uint64(u[ioDataOffset:])
		x.Data = c.run[off : off+uint64(x.Size)*uint64(le.Uint32(u[ioCount:]))]
	case ExitMMIO:
		x.Addr = le.Uint64(u[mmioPhysAddr:])
		x.Size = min(int(le.Uint32(u[mmioLen:])), 8)
		x.Write = u[mmioIsWrite] != 0
		x.Data = u[mmioData : mmioData+x.Size]
	case ExitDebug:
		x.Code = uint64(le.Uint32(u[debugException:]))
		x.Addr = le.Uint64(u[debugPC:])
		x.DR6 = le.Uint64(u[debugDR6:])
	case ExitFailEntry:
		x.Code = le.Uint64(u[failEntryReason:])
	case ExitInternalError:
		x.Code = uint64(le.Uint32(u[internalSuberror:]))
	case ExitSystemEvent:
		x.Code = uint64(le.Uint32(u[systemEventType:]))
	case ExitNotify:
		x.Code = uint64(le.Uint32(u[notifyFlags:]))
	case ExitMemoryFault:
		x.Code = le.Uint64(u[memoryFaultFlags:])
		x.Addr = le.Uint64(u[memoryFaultGPA:])
		x.Length = le.Uint64(u[memoryFaultSize:])
	}
	return x
}
