package probe

import (
	"errors"
	"fmt"
	"os"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/attach/window"
	"offmap/memory/uffd"
)

// Status is the result of a check.
type Status string

// The results. A check that others depend on and that failed makes them Skip.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Check is one thing that offmap looks at, with a fix that can be pasted.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Fix    string `json:"fix"`
}

// Works says whether an attach works for secret memory here, and why not.
type Works struct {
	Works  bool   `json:"works"`
	Reason string `json:"reason"`
}

// Report is everything that was found.
type Report struct {
	Checks []Check                 `json:"checks"`
	Attach map[attach.Method]Works `json:"attach"`
}

// Run makes all checks for a guest with size bytes of secret RAM. It opens
// and closes what it needs and changes nothing but this process's
// RLIMIT_MEMLOCK.
func Run(size uint64) Report {
	r := Report{Attach: map[attach.Method]Works{}}
	sys, check := checkKVM()
	r.Checks = append(r.Checks, check)
	if sys != nil {
		defer sys.Close()
	}
	r.Checks = append(r.Checks, checkFlavour(), checkGuard(sys))
	secret := checkSecret()
	r.Checks = append(r.Checks, secret, checkMemlock(size, secret.Status == OK), checkModule(), checkUserfaultfd(), checkSwap(), checkKcore())
	for _, m := range attach.Methods() {
		if m != attach.Auto {
			r.Attach[m] = try(sys, m)
		}
	}
	return r
}

func checkKVM() (*kvm.System, Check) {
	c := Check{Name: "kvm"}
	sys, err := kvm.Open("")
	if err != nil {
		c.Status, c.Detail, c.Fix = Fail, err.Error(), FixKVM(err)
		return nil, c
	}
	c.Status, c.Detail = OK, kvm.DefaultPath+" opens and speaks API version 12"
	return sys, c
}

func checkFlavour() Check {
	h := ThisHost()
	c := Check{Name: "kvm-flavour", Status: OK, Detail: fmt.Sprintf("%s, accelerated by %s", h.KVM, h.Accel)}
	switch {
	case h.KVM == "none":
		c.Status, c.Detail = Skip, "no KVM"
	case h.KVM == "pvm":
		c.Status = Warn
		c.Detail += ": guest user code is native, guest kernels are interpreted in the host's kernel, at about a million instructions a second"
		c.Fix = "boot Linux guests in `offmap lab`; the embedded payloads are native here"
	case h.Accel == "tcg":
		c.Status = Warn
		c.Detail += ": this host is emulated, so nothing that is timed here says anything of TLBs and caches"
	}
	return c
}

// checkGuard looks for what keeps a guest with hidden RAM from crashing the
// host (see vmm's guard).
func checkGuard(sys *kvm.System) Check {
	c := Check{Name: "kvm-guard"}
	if sys == nil {
		c.Status, c.Detail = Skip, "no KVM"
		return c
	}
	for _, x := range []struct {
		c    kvm.Cap
		name string
	}{{kvm.CapMSRFilter, "KVM_CAP_X86_MSR_FILTER"}, {kvm.CapEnforcePVFeatures, "KVM_CAP_ENFORCE_PV_FEATURE_CPUID"}} {
		if n, err := sys.Check(x.c); err != nil || n == 0 {
			c.Status, c.Detail = Fail, "KVM lacks "+x.name+", without which a guest could crash the host"
			c.Fix = "use Linux 5.10 or newer"
			return c
		}
	}
	c.Status, c.Detail = OK, "KVM can keep guests from its paravirtual features"
	return c
}

// trySecret makes secret RAM of size bytes and frees it again, untouched.
func trySecret(size uint64) error {
	layout, err := memory.LayoutOf(memory.Region{Size: size &^ (memory.PageSize - 1)})
	if err != nil {
		return err
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		return err
	}
	return ram.Close()
}

func checkSecret() Check {
	c := Check{Name: "memfd-secret", Status: OK, Detail: "memfd_secret works"}
	err := trySecret(memory.PageSize)
	if err == nil {
		return c
	}
	c.Status, c.Detail = Fail, err.Error()
	switch {
	case errors.Is(err, memory.ErrSecretDisabled):
		c.Fix = "add secretmem.enable=1 to GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot"
	case errors.Is(err, memory.ErrSecretAbsent):
		c.Fix = "boot a distribution kernel, 5.14 or newer"
	}
	return c
}

// checkMemlock makes secret RAM of the size wanted.
func checkMemlock(size uint64, secret bool) Check {
	c := Check{Name: "memlock"}
	if !secret {
		c.Status, c.Detail = Skip, "no memfd_secret"
		return c
	}
	err := trySecret(size)
	if err == nil {
		c.Status, c.Detail = OK, fmt.Sprintf("%d MiB of secret memory are allowed", size>>20)
		return c
	}
	c.Status, c.Detail = Fail, err.Error()
	if errors.Is(err, memory.ErrMemlock) {
		c.Fix = fmt.Sprintf("sudo prlimit --pid $$ --memlock=%d:%d", size, size)
	}
	return c
}

func checkModule() Check {
	c := Check{Name: "module"}
	err := attach.CheckBridge()
	if err == nil {
		c.Status, c.Detail = OK, "offmap.ko is loaded and speaks this program's ABI"
		return c
	}
	// The window does without it.
	c.Status, c.Detail = Warn, err.Error()
	c.Fix = "make kmod && sudo make kmod-install && sudo modprobe offmap"
	return c
}

// checkUserfaultfd looks for the right that the window needs.
func checkUserfaultfd() Check {
	c := Check{Name: "userfaultfd", Status: OK, Detail: "may be used for KVM's faults"}
	err := uffd.Probe()
	if err == nil {
		return c
	}
	c.Status, c.Detail = Warn, err.Error()
	if errors.Is(err, uffd.ErrDenied) {
		c.Fix = uffd.FixDenied
	}
	return c
}

// checkSwap says what becomes of ordinary frames when they aren't used.
func checkSwap() Check {
	c := Check{Name: "swap", Status: OK, Detail: "this host doesn't swap"}
	if window.HostSwaps() {
		c.Status = Warn
		c.Detail = "this host swaps: a window's frames are locked in memory, which takes CAP_IPC_LOCK or twice the RLIMIT_MEMLOCK; registers and buffers of the VMM's can be swapped out"
		c.Fix = "sudo swapoff -a"
	}
	return c
}

func checkKcore() Check {
	c := Check{Name: "kcore"}
	f, err := os.Open("/proc/kcore")
	if err != nil {
		c.Status, c.Detail = Warn, err.Error()+": the direct map can't be scanned here"
		c.Fix = "run as root on a kernel with CONFIG_PROC_KCORE, or use `offmap lab`"
		return c
	}
	f.Close()
	c.Status, c.Detail = OK, "/proc/kcore opens: the direct map can be scanned"
	return c
}

// try attaches a little secret RAM for real.
func try(sys *kvm.System, m attach.Method) Works {
	if sys == nil {
		return Works{Reason: "no KVM"}
	}
	layout, err := memory.LayoutOf(memory.Region{Size: 16 * memory.PageSize})
	if err != nil {
		return Works{Reason: err.Error()}
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		return Works{Reason: err.Error()}
	}
	defer ram.Close()
	a, err := attach.Open(sys, ram, m, attach.Options{})
	if refused, ok := errors.AsType[*attach.RefusedError](err); ok {
		return Works{Reason: refused.Rejected[0].Reason}
	}
	if err != nil {
		return Works{Reason: err.Error()}
	}
	a.Close()
	return Works{Works: true}
}
