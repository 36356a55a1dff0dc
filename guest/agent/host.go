package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How long a machine may take to bring up the program, and to report once it
// has ended. It takes seconds, but computers can be busy.
const (
	bootPatience   = 5 * time.Minute
	reportPatience = 2 * time.Minute
)

// Errors of Converse about a machine that hangs.
var (
	ErrBoot   = fmt.Errorf("not up after %s", bootPatience)
	ErrReport = fmt.Errorf("no report within %s of the program's end", reportPatience)
)

// ErrGone is Converse's error for a machine that ended by itself.
var ErrGone = errors.New("the machine ended before its program did")

// Host is the outside of a program's streams.
type Host struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal returns the size of the user's terminal, if the program is to have
	// one. It is called when SIGWINCH comes through Signals.
	Terminal func() Terminal
	// Ready, if not nil, is called when the program is about to start.
	Ready func()
	// Signals are passed on to the program. SIGINT, SIGTERM, SIGQUIT and SIGHUP
	// end the machine if they come before the program runs, and at their second
	// time.
	Signals <-chan os.Signal
	// StopPatience is how long the program may take to end after one of these
	// four; 0 is for ever.
	StopPatience time.Duration
	// Beat has the machine interrupted this often; 0 is never.
	Beat time.Duration
	// End ends the machine. Converse calls it when ctx ends, and before it
	// returns. The connection must then fail.
	End func()
}

// Converse relays between the caller and the program until the inside has reported, the
// machine is gone, or ctx has ended. It decodes the report into report, and returns
// the kernel's log if the inside sent it. The machine can't be used again.
func (h *Host) Converse(ctx context.Context, conn *Conn, report any) (log string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var (
		helpers   sync.WaitGroup
		running   = make(chan struct{})
		stdinDone = make(chan struct{}, 1)
		kernelLog strings.Builder
		stuck     = time.AfterFunc(bootPatience, func() { cancel(ErrBoot) })
	)
	// The end of the context ends the machine, and that ends whoever reads
	// from it or writes to it.
	defer helpers.Wait()
	defer cancel(nil)
	context.AfterFunc(ctx, h.End)
	helpers.Go(func() { h.passSignals(ctx, cancel, running, conn) })
	defer func() { stuck.Stop() }()

	for {
		kind, payload, err := conn.Receive()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return "", cause
			}
			return "", ErrGone
		}
		switch kind {
		case Ready:
			if isClosed(running) {
				return "", errors.New("the program started twice")
			}
			stuck.Stop()
			if h.Ready != nil {
				h.Ready()
			}
			close(running)
			helpers.Go(func() { passInput(ctx, h.Stdin, conn, stdinDone) })
			if h.Beat > 0 {
				helpers.Go(func() { h.beat(ctx, conn) })
			}
		case StdinDone:
			select {
			case stdinDone <- struct{}{}:
			default:
			}
		case Stdout:
			if _, err := h.Stdout.Write(payload); err != nil {
				return "", fmt.Errorf("stdout: %w", err)
			}
		case Stderr:
			if _, err := h.Stderr.Write(payload); err != nil {
				return "", fmt.Errorf("stderr: %w", err)
			}
		case Ended:
			stuck.Stop()
			stuck = time.AfterFunc(reportPatience, func() { cancel(ErrReport) })
		case KernelLog:
			if kernelLog.Len() > maxLog {
				return "", fmt.Errorf("kernel log of more than %d bytes", maxLog)
			}
			kernelLog.Write(payload)
		case Exit:
			if err := json.Unmarshal(payload, report); err != nil {
				return "", fmt.Errorf("the program's report: %w", err)
			}
			return kernelLog.String(), nil
		}
	}
}

// maxLog bounds what is kept of a kernel's log, in bytes. The inside isn't trusted.
const maxLog = 64 << 20

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (h *Host) beat(ctx context.Context, conn *Conn) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(h.Beat):
			if conn.Send(Beat, nil) != nil {
				return
			}
		}
	}
}

// SignalError says that a signal ended the run before the program could
// take it.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "ended by " + e.Signal.String() }

// endSignals are those that people and programs send to end a program.
var endSignals = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP}

// sameSignal is the time in which a signal that comes again is the same one, because
// timeout(1) sends its signal twice, to the program and to its process group.
const sameSignal = 100 * time.Millisecond

// passSignals passes signals on to the program.
func (h *Host) passSignals(ctx context.Context, end context.CancelCauseFunc, running <-chan struct{}, conn *Conn) {
	var (
		asked    time.Time // when the first of endSignals came
		last     syscall.Signal
		patience <-chan time.Time
	)
	for {
		select {
		case <-ctx.Done():
			return
		case <-patience:
			end(&SignalError{last})
			return
		case s := <-h.Signals:
			sig, _ := s.(syscall.Signal)
			switch {
			case sig == syscall.SIGWINCH:
				if isClosed(running) && h.Terminal != nil {
					conn.SendJSON(Resize, h.Terminal())
				}
			case isClosed(running) && !slices.Contains(endSignals, sig):
				conn.Send(Signal, []byte{byte(sig)})
			case isClosed(running) && asked.IsZero():
				asked, last = time.Now(), sig
				if h.StopPatience > 0 {
					patience = time.After(h.StopPatience)
				}
				conn.Send(Signal, []byte{byte(sig)})
			case sig == last && time.Since(asked) < sameSignal:
			default:
				end(&SignalError{sig})
				return
			}
		}
	}
}

// passInput sends what comes from r, one frame at a time, until its end.
func passInput(ctx context.Context, r io.Reader, conn *Conn, taken <-chan struct{}) {
	switch in := r.(type) {
	case *os.File:
		r = &interruptible{ctx, in}
	case interface{ Interrupt() }:
		defer context.AfterFunc(ctx, in.Interrupt)()
	}
	buf := make([]byte, MaxPayload)
	for r != nil {
		n, err := r.Read(buf)
		if n > 0 {
			if conn.Send(Stdin, buf[:n]) != nil {
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
		conn.Send(Stdin, nil)
	}
}
