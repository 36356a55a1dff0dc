package probe

import (
	"context"
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/uffd"
)

// Trial is what came of running a small guest with a pair. Errno is the name
// of the kernel's error, such as EFAULT, if it was one. Needs is what is
// missing, in a few words: a boot parameter, a module, a sysctl, a kernel; empty
// where that isn't known.
type Trial struct {
	attach.Pair
	Works  bool   `json:"works"`
	Reason string `json:"reason"`
	Errno  string `json:"errno"`
	Needs  string `json:"needs"`
}

// Try runs a small guest with a pair, on the KVM at device, "" for
// kvm.DefaultPath. It runs code at CPL 3: KVM has to map its pages for it on
// every flavour, which a KVM that interprets ring 0 does not have to do there.
func Try(ctx context.Context, p attach.Pair, device string) Trial {
	t := Trial{Pair: p}
	_, err := spin(ctx, device, p, 3)
	if err == nil {
		t.Works = true
		return t
	}
	t.Reason, t.Errno, t.Needs = err.Error(), errnoOf(err), needs(p, err)
	if refused, ok := errors.AsType[*attach.RefusedError](err); ok {
		t.Reason = refused.Rejected[0].Reason
	}
	return t
}

// errnoOf names the kernel's error in err.
func errnoOf(err error) string {
	if errors.Is(err, memory.ErrSecretDisabled) || errors.Is(err, memory.ErrSecretAbsent) {
		return "ENOSYS" // to both
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(e)
	}
	return ""
}

// needs says what would make a pair work.
func needs(p attach.Pair, err error) string {
	if _, ok := errors.AsType[*kvm.OpenError](err); ok {
		return "KVM"
	}
	if refused, ok := errors.AsType[*sandbox.Error](err); ok {
		return "a seccomp profile that allows " + refused.Call
	}
	switch {
	case errors.Is(err, memory.ErrSecretDisabled):
		return "boot parameter secretmem.enable=1"
	case errors.Is(err, memory.ErrSecretAbsent):
		return "Linux 5.14 with CONFIG_SECRETMEM"
	case p.Backend == memory.Secret && errors.Is(err, unix.ENOSYS): // whose it is can't be told
		return "boot parameter secretmem.enable=1, or a seccomp profile that allows memfd_secret"
	case overLimit(err):
		return "a higher RLIMIT_MEMLOCK"
	case errors.Is(err, memory.ErrTooLarge):
		return "more free memory"
	}
	if !errors.Is(err, memory.ErrUnavailable) && !errors.Is(err, attach.ErrUnavailable) {
		return "" // something went wrong, rather than is missing
	}
	switch p.Backend {
	case memory.GuestMemfd:
		return "Linux 6.18 (KVM_CAP_GUEST_MEMFD_FLAGS with MMAP and INIT_SHARED)"
	case memory.Hugetlb:
		return "sysctl vm.nr_hugepages"
	case memory.Reserved:
		ranges, err := memory.ReservedRanges()
		return reservedNeeds(err == nil && ranges != nil)
	case memory.Secret:
		return secretNeeds(p.Attach, err)
	}
	return ""
}

// reservedNeeds says what backend reserved lacks here, where the kernel was
// booted with ranges set aside or not.
func reservedNeeds(ranges bool) string {
	const (
		word   = "boot parameter memmap=SIZE$ADDRESS"
		device = "root, and a kernel with /dev/mem that isn't locked down"
	)
	switch {
	case unix.Access("/dev/mem", unix.R_OK|unix.W_OK) == nil:
		return word // or another range than those
	case ranges:
		return device
	}
	return device + "; and then " + word
}

func secretNeeds(m attach.Method, err error) string {
	switch m {
	case attach.Direct:
		return "a KVM that takes pages without GUP, which no stock kernel has"
	case attach.ViaBridge:
		err := attach.CheckBridge()
		switch {
		case errors.Is(err, attach.ErrBridgeDenied):
			return "rights to " + attach.BridgeDevice
		case errors.Is(err, attach.ErrBridgeABI):
			return "module offmap.ko of this version"
		case err != nil:
			return "module offmap.ko"
		}
	case attach.ViaWindow:
		if errors.Is(uffd.Probe(), uffd.ErrDenied) {
			return "sysctl vm.unprivileged_userfaultfd=1, or rights to " + uffd.Device
		}
		for _, setting := range []struct{ word, needs string }{
			{"memfd_noexec", "sysctl vm.memfd_noexec=1"},
			{"shmem_enabled", "transparent_hugepage/shmem_enabled=never"},
		} {
			if strings.Contains(err.Error(), setting.word) {
				return setting.needs
			}
		}
	}
	return ""
}
