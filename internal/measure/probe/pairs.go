package probe

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/unavailable"
	"offmap/memory"
	"offmap/memory/attach"
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
	t.Reason, t.Errno, t.Needs = err.Error(), errnoOf(err), unavailable.Needs(err)
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
