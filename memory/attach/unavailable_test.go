package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/kvm"
	"offmap/memory"
)

// TestUnavailable holds what counts as a host that lacks something, here and
// in memory, where KVM and attaches aren't known.
func TestUnavailable(t *testing.T) {
	open := &kvm.OpenError{PathError: fs.PathError{Op: "open", Path: "/dev/kvm", Err: unix.EACCES}}
	for _, c := range []struct {
		err            error
		memory, attach bool
	}{
		{nil, false, false},
		{errors.New("anything"), false, false},
		{unix.ENOSYS, false, false},
		{memory.ErrHole, false, false},
		{memory.ErrNoRegions, false, false},
		{memory.ErrUnavailable, true, true},
		{memory.ErrSecretAbsent, true, true},
		{memory.ErrSecretDisabled, true, true},
		{memory.ErrMemlock, true, true},
		{memory.ErrTooLarge, true, true},
		{ErrUnavailable, false, true},
		{&RefusedError{Backend: memory.Secret}, false, true},
		{open, false, true},
	} {
		for _, err := range []error{c.err, wrapped(c.err)} {
			if got := memory.Unavailable(err); got != c.memory {
				t.Errorf("memory: %v: %v, want %v", err, got, c.memory)
			}
			if got := Unavailable(err); got != c.attach {
				t.Errorf("attach: %v: %v, want %v", err, got, c.attach)
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
