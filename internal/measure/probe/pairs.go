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

// Trial is the result of running a small guest with a pair. Reason says why it
// didn't run. Errno is the name of the kernel's error, such as EFAULT, if there was
// one. Needs names in a few words what is missing, such as a boot parameter, a
// module, a sysctl or a kernel; it is empty if that isn't known.
type Trial struct {
	attach.Pair
	Works  bool   `json:"works"`
	Reason string `json:"reason"`
	Errno  string `json:"errno"`
	Needs  string `json:"needs"`
}

// Try runs a small guest with a pair, on the KVM at device ("" for
// kvm.DefaultPath). The guest's code is at CPL 3, for which every KVM has to map the
// guest's pages. A KVM that interprets code at CPL 0 need not map them for that.
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
