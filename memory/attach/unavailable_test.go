package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/internal/process/sandbox"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/uffd"
)

// TestUnavailable holds which errors say that this host lacks something.
func TestUnavailable(t *testing.T) {
	open := &kvm.OpenError{PathError: fs.PathError{Op: "open", Path: "/dev/kvm", Err: unix.EACCES}}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("anything"), false},
		{unix.ENOSYS, false},
		{memory.ErrHole, false},
		{memory.ErrNoRegions, false},
		{kvm.ErrAPIVersion, false},
		{memory.ErrUnavailable, true},
		{memory.ErrSecretAbsent, true},
		{memory.ErrSecretDisabled, true},
		{memory.ErrMemlock, true},
		{memory.ErrTooLarge, true},
		{uffd.ErrDenied, true},
		{uffd.ErrUnsupported, true},
		{ErrBridgeMissing, true},
		{ErrBridgeDenied, true},
		{ErrBridgeABI, true},
		{&RefusedError{Backend: memory.Secret}, true},
		{&sandbox.Error{Call: "memfd_secret", Errno: unix.EPERM}, true},
		{canary.ErrUnavailable, true},
		{open, true},
	} {
		for _, err := range []error{c.err, wrapped(c.err)} {
			if got := errors.Is(err, memory.ErrUnavailable); got != c.want {
				t.Errorf("%v: %v, want %v", err, got, c.want)
			}
		}
	}
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(errors.New("and another"), fmt.Errorf("x: %w", err))
}
