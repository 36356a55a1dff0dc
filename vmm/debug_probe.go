package vmm

import (
	"errors"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm/boot"
)

// trapsINT3 reports whether KVM ends KVM_RUN at an INT3, as it says that it does. Two
// don't: a KVM that works without the processor's help may not know the instruction at
// CPL 0, and QEMU's SVM, emulated by TCG, delivers INT3 to the guest without asking
// for an intercept (raise_interrupt2, target/i386/tcg/excp_helper.c). The probe is
// a guest of one instruction and no handler.
func trapsINT3(device string) (traps bool, err error) {
	layout, err := memory.LayoutOf(memory.Region{Size: 1 << 20})
	if err != nil {
		return false, err
	}
	v, err := attach.NewVM(device, attach.Pair{Backend: memory.Anon, Attach: attach.Direct}, layout, attach.Options{CPUs: 1})
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	if err := v.SetSlots(0); err != nil {
		return false, err
	}
	states, err := boot.Payload(v.Guest(), []byte{int3}, boot.PayloadConfig{CPUs: 1})
	if err != nil {
		return false, err
	}
	c, err := v.KVM.CreateVCPU(0)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	cpuid, err := v.System.SupportedCPUID()
	if err != nil {
		return false, err
	}
	if err := c.SetCPUID(cpuid); err != nil {
		return false, err
	}
	if err := SetState(c, states[0]); err != nil {
		return false, err
	}
	if err := c.SetGuestDebug(kvm.GuestDebug{Control: kvm.DebugEnable | kvm.DebugUseSWBP}); err != nil {
		return false, err
	}
	x, err := c.Run()
	for errors.Is(err, unix.EINTR) { // a signal of the Go runtime's
		x, err = c.Run()
	}
	if err != nil {
		return false, err
	}
	return x.Reason == kvm.ExitDebug && x.Code == kvm.VectorBP, nil
}
