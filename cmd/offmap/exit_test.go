package main

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"offmap/internal/process/exitcode"
	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/vmm"
)

func TestExitCode(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("somewhere: %w", &commandError{err}) }
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{usage("wrong"), 2},
		{exitWith(exitcode.Check, nil), 3},
		{&attach.RefusedError{Backend: memory.Secret}, 4},
		{memory.ErrMemlock, 4},
		{memory.ErrSecretDisabled, 4},
		{&kvm.OpenError{PathError: fs.PathError{Err: syscall.EACCES}}, 4},
		{&signalError{syscall.SIGTERM}, 143},
		{outcome(vmm.Outcome{Reason: vmm.PowerOff}, nil), 0},
		{outcome(vmm.Outcome{Reason: vmm.PowerOff, Code: 7}, nil), 7},
		{outcome(vmm.Outcome{Reason: vmm.Reset}, nil), 32},
		{outcome(vmm.Outcome{Reason: vmm.Crash, Detail: "triple fault"}, nil), 33},
		{outcome(vmm.Outcome{Reason: vmm.Panic}, nil), 34},
		{outcome(vmm.Outcome{Reason: vmm.Stopped}, nil), 0},
		{outcome(vmm.Outcome{Reason: vmm.Halt}, nil), 0},
		{outcome(vmm.Outcome{Reason: vmm.Stopped}, errTimeout), 124},
		{outcome(vmm.Outcome{Reason: vmm.Panic}, errTimeout), 34},
		{outcome(vmm.Outcome{Reason: vmm.Panic}, &signalError{syscall.SIGINT}), 130},
		{outcome(vmm.Outcome{Reason: vmm.Stopped}, &signalError{syscall.SIGINT}), 130},
		{outcome(vmm.Outcome{Reason: vmm.Crash}, errors.New("KVM_RUN")), 1},
	} {
		err := c.err
		if err != nil {
			err = wrap(err)
		}
		if got := exitCode(err); got != c.want {
			t.Errorf("exit code of %v is %d, want %d", c.err, got, c.want)
		}
	}
}
