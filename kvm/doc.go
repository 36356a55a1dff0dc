// Package kvm is the ABI of Linux's KVM on x86-64 and its objects: System, VM and
// VCPU. It follows https://docs.kernel.org/virt/kvm/api.html, which comments call
// api.rst. It does not know where guest memory comes from; package memory and
// package attach do.
//
// # Order of use
//
// Open opens /dev/kvm. System.CreateVM makes a VM without memory or vCPUs.
// VM.SetSlot gives it guest RAM: a mapping of this process, and the
// guest-physical address where the guest sees it. VM.CreateVCPU makes a vCPU.
// Its registers are set with SetSRegs and SetRegs, and what CPUID tells the guest
// with SetCPUID, for which System.SupportedCPUID has the entries. VCPU.Run enters
// the guest and returns an Exit: what the guest did that KVM leaves to its caller.
// The example has all of this.
//
// A machine with in-kernel interrupt controllers calls SetTSSAddr,
// SetIdentityMapAddr and CreateIRQChip before its first vCPU, and CreatePIT2
// after CreateIRQChip.
//
// # Descriptors and threads
//
// Each object owns its file descriptor. Close closes it, once, however often it
// is called. KVM keeps a VM for as long as it or one of its vCPUs is open, and
// uses the memory of its slots until then: that is unmapped last.
//
// A vCPU belongs to one thread at a time, which runtime.LockOSThread keeps for a
// goroutine. Only VCPU.RequestExit may be called from another one.
//
// # Errors
//
// An error names the call and wraps the errno. Open fails with an *OpenError
// where the device node can't be opened, which is memory.ErrUnavailable for
// errors.Is, and with ErrAPIVersion where it speaks another ABI. VCPU.Run fails
// with a *FaultError where KVM can't get at a page of guest RAM. Run returns
// EINTR when a signal comes, the Go runtime's own among them: the caller enters
// the guest again.
package kvm
