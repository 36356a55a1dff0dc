package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"offmap/internal/lab/wire"
)

// converse relays between the caller and the program until the inside has
// reported or the machine is gone. It calls ready when the program starts.
func (m *machine) converse(ctx context.Context, cfg *Config, ready func()) (wire.Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	conn := wire.NewConn(m.ports[wire.ControlPort])
	var (
		helpers   sync.WaitGroup
		running   = make(chan struct{})
		stdinDone = make(chan struct{}, 1)
	)
	defer helpers.Wait()
	defer cancel(nil)
	// The end of the context ends the machine, and that ends Receive.
	defer context.AfterFunc(ctx, func() { m.cmd.Process.Kill() })()
	helpers.Go(func() { passSignals(ctx, cancel, cfg, running, conn) })

	for {
		kind, payload, err := conn.Receive()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return wire.Report{}, cause
			}
			return wire.Report{}, m.lost(cfg.Kernel.Release)
		}
		switch kind {
		case wire.Ready:
			ready()
			close(running)
			helpers.Go(func() { passInput(ctx, cfg.Stdin, conn, stdinDone) })
		case wire.StdinDone:
			select {
			case stdinDone <- struct{}{}:
			default:
			}
		case wire.Stdout:
			if _, err := cfg.Stdout.Write(payload); err != nil {
				return wire.Report{}, fmt.Errorf("stdout: %w", err)
			}
		case wire.Stderr:
			if _, err := cfg.Stderr.Write(payload); err != nil {
				return wire.Report{}, fmt.Errorf("stderr: %w", err)
			}
		case wire.KernelLog:
			m.mu.Lock()
			m.kernel.Write(payload)
			m.mu.Unlock()
		case wire.Exit:
			var report wire.Report
			if err := json.Unmarshal(payload, &report); err != nil {
				return report, fmt.Errorf("lab machine's report: %w", err)
			}
			return report, nil
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
	if f, ok := r.(*os.File); ok {
		r = &interruptible{ctx, f}
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
