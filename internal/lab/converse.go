package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"offmap/internal/lab/wire"
)

// How long a machine may take to bring up the program, and to report once it
// has ended. It takes seconds, but computers can be busy.
const (
	bootPatience   = 5 * time.Minute
	reportPatience = 2 * time.Minute
)

var (
	errBoot   = fmt.Errorf("%w: not up after %s", ErrKernel, bootPatience)
	errReport = fmt.Errorf("%w: no report within %s of the program's end", ErrKernel, reportPatience)
)

// converse relays between the caller and the program until the inside has
// reported or the machine is gone, and calls ready when the program starts. The
// machine can't be used again afterwards. The log returned is the one that the
// inside read at the end.
func (m *labMachine) converse(ctx context.Context, cfg *Config, ready func()) (report wire.Report, log string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	conn := wire.NewConn(m.ports[wire.ControlPort])
	var (
		helpers   sync.WaitGroup
		running   = make(chan struct{})
		stdinDone = make(chan struct{}, 1)
		kernelLog strings.Builder
		stuck     = time.AfterFunc(bootPatience, func() { cancel(errBoot) })
	)
	// The end of the context ends the machine, and that ends whoever reads
	// from it or writes to it.
	defer helpers.Wait()
	defer cancel(nil)
	context.AfterFunc(ctx, func() { m.cmd.Process.Kill() })
	helpers.Go(func() { passSignals(ctx, cancel, cfg, running, conn) })
	defer func() { stuck.Stop() }()

	for {
		kind, payload, err := conn.Receive()
		if err != nil {
			switch cause := context.Cause(ctx); cause.(type) {
			case nil:
				return report, "", m.lost(cfg.Kernel.Release)
			case *SignalError:
				return report, "", cause
			default:
				return report, "", fmt.Errorf("kernel %s: %w; the end of its log:%s", cfg.Kernel.Release, cause, tail(m.log(), 12))
			}
		}
		switch kind {
		case wire.Ready:
			stuck.Stop()
			ready()
			close(running)
			helpers.Go(func() { passInput(ctx, cfg.Stdin, conn, stdinDone) })
			helpers.Go(func() { beat(ctx, conn) })
		case wire.StdinDone:
			select {
			case stdinDone <- struct{}{}:
			default:
			}
		case wire.Stdout:
			if _, err := cfg.Stdout.Write(payload); err != nil {
				return report, "", fmt.Errorf("stdout: %w", err)
			}
		case wire.Stderr:
			if _, err := cfg.Stderr.Write(payload); err != nil {
				return report, "", fmt.Errorf("stderr: %w", err)
			}
		case wire.Ended:
			stuck = time.AfterFunc(reportPatience, func() { cancel(errReport) })
		case wire.KernelLog:
			kernelLog.Write(payload)
		case wire.Exit:
			if err := json.Unmarshal(payload, &report); err != nil {
				return report, "", fmt.Errorf("lab machine's report: %w", err)
			}
			return report, kernelLog.String(), nil
		}
	}
}

// beatInterval bounds how long a lost interrupt can halt a machine.
const beatInterval = time.Second

// beat interrupts the machine every beatInterval. QEMU (10.0 at least) can lose
// an interrupt that arrives just as a nested guest exits: the exit clears a bit
// of cpu->interrupt_request without the lock under which devices set others.
// The interrupt then stays pending in the local APIC until another one arrives.
// If the lost one was the timer's, none arrives, and the machine halts for good.
// https://lore.kernel.org/qemu-devel/20250829153115.1590048-2-pbonzini@redhat.com/
func beat(ctx context.Context, conn *wire.Conn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(beatInterval):
			if conn.Send(wire.Beat, nil) != nil {
				return
			}
		}
	}
}

// A SignalError says that a signal ended the run before the program could
// take it.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "ended by " + e.Signal.String() }

// stopPatience is how long a program may take to end after a signal.
const stopPatience = 15 * time.Second

// passSignals passes the first signal on to the program. The machine itself is
// ended by one that comes before the program runs, by a second one, and by a
// program that doesn't end.
func passSignals(ctx context.Context, end context.CancelCauseFunc, cfg *Config, running <-chan struct{}, conn *wire.Conn) {
	var (
		passed    syscall.Signal
		patience  <-chan time.Time
		isRunning = func() bool {
			select {
			case <-running:
				return true
			default:
				return false
			}
		}
	)
	for {
		select {
		case <-ctx.Done():
			return
		case <-patience:
			end(&SignalError{passed})
			return
		case s := <-cfg.Signals:
			sig, _ := s.(syscall.Signal)
			switch {
			case sig == syscall.SIGWINCH:
				if isRunning() && cfg.Terminal != nil {
					conn.SendJSON(wire.Resize, cfg.Terminal())
				}
			case isRunning() && passed == 0:
				passed, patience = sig, time.After(stopPatience)
				conn.Send(wire.Signal, []byte{byte(sig)})
			default:
				end(&SignalError{sig})
				return
			}
		}
	}
}

// passInput sends what comes from r, one frame at a time, until its end.
func passInput(ctx context.Context, r io.Reader, conn *wire.Conn, taken <-chan struct{}) {
	switch in := r.(type) {
	case *os.File:
		r = &interruptible{ctx, in}
	case interface{ Interrupt() }:
		defer context.AfterFunc(ctx, in.Interrupt)()
	}
	buf := make([]byte, wire.MaxPayload)
	for r != nil {
		n, err := r.Read(buf)
		if n > 0 {
			if conn.Send(wire.Stdin, buf[:n]) != nil {
				return
			}
			select {
			case <-taken:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			break
		}
	}
	if ctx.Err() == nil {
		conn.Send(wire.Stdin, nil)
	}
}
