package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"offmap/guest/agent"
	"offmap/vmm"
)

// TestExecEnding holds the exit code, and a part of the message, of every way in which a
// command in a guest ends. What the guest reports may be anything.
func TestExecEnding(t *testing.T) {
	failed := func(text string) agent.Report { return agent.Report{Code: 127, Failure: text} }
	for _, c := range []struct {
		name   string
		report agent.Report
		reason vmm.Reason
		err    error // of the conversation
		run    error // of the machine
		code   int
		says   string
	}{
		{name: "success"},
		{name: "exit code", report: agent.Report{Code: 41}, code: 41},
		{name: "not found", report: failed("no such command"), code: 127, says: "no such command"},
		{name: "failure without a code", report: agent.Report{Failure: "odd"}, code: 125, says: "odd"},
		{name: "exit code 256", report: agent.Report{Code: 256}, code: 125, says: "256"},
		{name: "exit code -1", report: agent.Report{Code: -1}, code: 125, says: "-1"},
		{name: "signal", err: &agent.SignalError{Signal: syscall.SIGTERM}, code: 128 + 15, says: "terminated"},
		{name: "panic", reason: vmm.Panic, err: agent.ErrGone, code: 34, says: "panicked"},
		{name: "crash", reason: vmm.Crash, err: agent.ErrGone, code: 33, says: "crashed"},
		{name: "reset", reason: vmm.Reset, err: agent.ErrGone, code: 32, says: "reset"},
		{name: "power-off", reason: vmm.PowerOff, err: agent.ErrGone, code: 125, says: "before the command did"},
		{name: "timeout", reason: vmm.Stopped, err: errTimeout, run: errTimeout, code: 124, says: "timeout"},
		{name: "never up", reason: vmm.Stopped, err: agent.ErrBoot, code: 125, says: "not up after"},
		{name: "output closed", reason: vmm.Stopped, err: fmt.Errorf("stdout: %w", syscall.ENOSPC), code: 125, says: "no space"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := execution{}
			err := execError(x.ending(c.report, vmm.Result{Outcome: vmm.Outcome{Reason: c.reason}}, c.err, c.run))
			if exitCode(err) != c.code {
				t.Errorf("exit code %d, want %d: %v", exitCode(err), c.code, err)
			}
			e, _ := errors.AsType[*codeError](err)
			silent := err == nil || e != nil && e.err == nil
			if silent != (c.says == "") || !silent && !strings.Contains(err.Error(), c.says) {
				t.Errorf("says %v, want %q", err, c.says)
			}
		})
	}
}
