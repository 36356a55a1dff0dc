package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"offmap/guest/agent"
	"offmap/internal/lab/wire"
)

// beatInterval bounds how long a lost interrupt can halt a machine. QEMU (10.0 at
// least) can lose an interrupt that arrives just as a nested guest exits: the exit
// clears a bit of cpu->interrupt_request without the lock under which devices set
// others. The interrupt then stays pending in the local APIC until another one
// arrives. If the lost one was the timer's, none arrives, and the machine halts for
// good.
// https://lore.kernel.org/qemu-devel/20250829153115.1590048-2-pbonzini@redhat.com/
const beatInterval = time.Second

// stopPatience is how long a program may take to end after a signal.
const stopPatience = 15 * time.Second

// converse relays between the caller and the program until the inside has
// reported or the machine is gone, and calls ready when the program starts. The
// machine can't be used again afterwards. The log returned is the one that the
// inside read at the end.
func (m *labMachine) converse(ctx context.Context, cfg *Config, ready func()) (report wire.Report, log string, err error) {
	h := agent.Host{
		Stdin: cfg.Stdin, Stdout: cfg.Stdout, Stderr: cfg.Stderr, Terminal: cfg.Terminal,
		Ready: ready, Signals: cfg.Signals, StopPatience: stopPatience, Beat: beatInterval,
		End: func() { m.cmd.Process.Kill() },
	}
	log, err = h.Converse(ctx, agent.NewConn(m.ports[wire.ControlPort]), &report)
	_, bySignal := errors.AsType[*agent.SignalError](err)
	switch {
	case err == nil || bySignal:
		return report, log, err
	case errors.Is(err, agent.ErrGone):
		return report, "", m.lost(cfg.Kernel.Release)
	case errors.Is(err, agent.ErrBoot), errors.Is(err, agent.ErrReport):
		err = fmt.Errorf("%w: %w", ErrKernel, err)
	}
	return report, "", fmt.Errorf("kernel %s: %w; the end of its log:%s", cfg.Kernel.Release, err, tail(m.log(), 12))
}
