package probe

import (
	"context"
	"fmt"
	"time"

	"offmap/internal/process/sandbox"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
)

func openKVM(device string) (*kvm.System, Check) {
	c := Check{Name: "kvm"}
	sys, err := kvm.Open(device)
	if err != nil {
		c.Status, c.Detail = Fail, err.Error()
		if !sandbox.Refused(err) {
			c.Fix = FixKVM(err)
		}
		return nil, c
	}
	c.Status, c.Detail = OK, "opens and speaks API version 12"
	return sys, c
}

func (h *host) flavour() Check {
	c := Check{Name: "kvm-flavour", Status: OK}
	if h.sys == nil {
		c.Status, c.Detail = Skip, "no KVM"
		return c
	}
	switch f := h.vendor(); f {
	case "svm":
		c.Detail = "svm (AMD-V)"
	case "vmx":
		c.Detail = "vmx (Intel VT-x)"
	case "pvm":
		c.Detail = "pvm: software, without the processor's help"
	default:
		c.Status = Warn
		c.Detail = f + ": /sys/module has none of kvm_amd, kvm_intel and kvm_pvm; nothing can be done, but kvm-native says what guests do here"
	}
	if emulated() {
		c.Detail += ", on a machine that is emulated itself (QEMU TCG): timings here say nothing about TLBs and caches"
	}
	return c
}

// interpreted is the rate, in turns of the loop per second, below which the processor
// can't be running the guest's code itself. KVM's instruction emulator makes less
// than a million turns a second, QEMU's TCG a hundred million and more.
const interpreted = 3e6

// native measures whether guest code is run by the processor, at the privilege
// level of kernels and at that of programs.
func (h *host) native(ctx context.Context) Check {
	c := Check{Name: "kvm-native"}
	if h.sys == nil {
		c.Status, c.Detail = Skip, "no KVM"
		return c
	}
	kernel, err := h.rate(ctx, 0)
	if err != nil {
		c.Status, c.Detail = Fail, "no guest runs, even in ordinary memory: "+err.Error()
		if !sandbox.Refused(err) {
			c.Detail += "; the kernel's log may say more"
			c.Fix = "sudo dmesg | grep -i kvm"
		}
		return c
	}
	user, err := h.rate(ctx, 3)
	if err != nil {
		c.Status, c.Detail = Fail, "a guest kernel runs and a guest program doesn't: "+err.Error()+"; this KVM is broken, and nothing can be done here"
		return c
	}
	c.Detail = judgeRates(kernel, user)
	c.Status = OK
	if kernel < interpreted {
		c.Status = Warn
		c.Fix = "offmap lab -- run -k debian:6.1"
	}
	return c
}

// judgeRates describes the rates at CPL 0 and 3, in turns of the loop per second.
func judgeRates(kernel, user float64) string {
	say := func(what string, rate float64) string {
		if rate < interpreted {
			return fmt.Sprintf("%s are interpreted (%.1f million loop turns a second)", what, rate/1e6)
		}
		return fmt.Sprintf("%s run natively", what)
	}
	text := say("guest kernels", kernel) + ", " + say("guest programs", user)
	if kernel < interpreted {
		text += ": Linux guests take minutes here; the embedded payloads don't"
	}
	return text
}

// rate returns the best of a few runs, in turns of the loop per second: other load on
// the machine can only lower it.
func (h *host) rate(ctx context.Context, ring uint8) (best float64, err error) {
	for range 3 {
		took, err := spin(ctx, h.cfg.KVM, attach.Pair{Backend: memory.Anon, Attach: attach.Direct}, ring)
		if err != nil {
			return 0, err
		}
		best = max(best, spinTurns/max(took, time.Microsecond).Seconds())
		if best > interpreted {
			break
		}
	}
	return best, nil
}

// guard checks for the capabilities with which vmm keeps a guest with hidden RAM from
// crashing the host.
func (h *host) guard() Check {
	c := Check{Name: "kvm-guard"}
	if h.sys == nil {
		c.Status, c.Detail = Skip, "no KVM"
		return c
	}
	for _, x := range []struct {
		c    kvm.Cap
		name string
	}{{kvm.CapMSRFilter, "KVM_CAP_X86_MSR_FILTER"}, {kvm.CapEnforcePVFeatures, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"}} {
		n, err := h.sys.Check(x.c)
		if sandbox.Refused(err) {
			c.Status, c.Detail = Fail, err.Error()
			return c
		}
		if err != nil || n == 0 {
			c.Status, c.Detail = Fail, "KVM lacks "+x.name+", without which a guest in hidden RAM could crash the host; Linux 5.10 has it, and there is no other fix"
			return c
		}
	}
	c.Status, c.Detail = OK, "KVM can keep guests in hidden RAM from the features with which they would crash the host"
	return c
}

// guestMemfd reports the flags of this KVM's guest_memfd, also that which takes it
// off the direct map, though no released kernel has it yet.
func (h *host) guestMemfd() Check {
	c := Check{Name: "guest-memfd"}
	if h.sys == nil {
		c.Status, c.Detail = Skip, "no KVM"
		return c
	}
	flags, err := h.sys.GuestMemfdFlags()
	switch {
	case sandbox.Refused(err):
		c.Status, c.Detail = Warn, err.Error()
	case err != nil:
		c.Status, c.Detail = Warn, err.Error()+"; nothing can be done here"
	case flags == 0:
		c.Status, c.Detail = Skip, "this KVM has no guest_memfd that can be mapped (Linux 6.18 does)"
	case flags&kvm.GuestMemfdNoDirectMap != 0:
		c.Status, c.Detail = OK, fmt.Sprintf("flags %s: this kernel can take it off the direct map, which offmap doesn't use yet", flags)
	default:
		c.Status, c.Detail = OK, fmt.Sprintf("flags %s: none that takes it off the direct map", flags)
	}
	return c
}
