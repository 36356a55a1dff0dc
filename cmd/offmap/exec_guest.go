package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"offmap/guest/agent"
	"offmap/internal/process/exitcode"
	"offmap/internal/process/terminal"
	"offmap/vmm"
)

// execution is a command in a guest.
type execution struct {
	*session
	verbose bool
	dmesg   string // file for the kernel's log, or ""
	failed  string // the same, if the command fails

	console lastOutput // what the guest's kernel wrote
	conn    *agent.Conn
	hangUp  func() // closes conn
}

// run runs the command, and writes the report and the kernel's log.
func (x *execution) run(ctx context.Context) (err error) {
	host, tty, err := ownStreams()
	if err != nil {
		return err
	}
	defer tty.Close()
	ctx, signals, end := forwardSignals(ctx)
	defer end()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	host.Signals = signals
	host.Stdout = &output{w: host.Stdout, stopping: ctx.Done()}
	host.Stderr = &output{w: host.Stderr, stopping: ctx.Done()}
	disarm := lastResort(ctx, tty.Close)
	defer disarm()

	m, err := x.open()
	if err != nil {
		disarm()
		return errors.Join(err, x.report.write(ctx, x.refused(err)))
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if err := x.debug.start(m); err != nil {
		disarm()
		return errors.Join(err, x.report.write(ctx, x.refused(err)))
	}
	host.End = func() {
		m.Stop()
		x.hangUp()
	}
	var (
		result vmm.Result
		runErr error
		gone   sync.WaitGroup
	)
	gone.Go(func() {
		result, runErr = x.runMachine(ctx, m)
		x.hangUp()
	})
	var report agent.Report
	log, err := host.Converse(ctx, x.conn, &report)
	gone.Wait()
	disarm()
	tty.Close()
	runErr = x.explainTimeout(result, runErr)

	if err == nil {
		result.Outcome = vmm.Outcome{Reason: vmm.PowerOff, Code: report.Code}
		if runErr != nil {
			warn(runErr) // the command has ended well
		}
	}
	ending := x.ending(report, result, err, runErr)
	if log == "" {
		log = x.console.String()
	}
	var failed error
	if ending != nil {
		failed = x.writeLog(ctx, x.failed, log)
	}
	return errors.Join(ending, failed, x.writeLog(ctx, x.dmesg, log), x.report.write(ctx, x.ended(m, result, ending)))
}

// open makes the machine.
func (x *execution) open() (m *vmm.Machine, err error) {
	if x.devices, err = x.runFlags.devices.open(); err != nil {
		return nil, err
	}
	toGuest, in := io.Pipe()
	out, fromGuest := io.Pipe()
	if err := x.devices.addPort(agent.Port, toGuest, fromGuest); err != nil {
		return nil, errors.Join(err, x.devices.close())
	}
	x.conn = agent.NewConn(struct {
		io.Reader
		io.Writer
	}{out, in})
	x.hangUp = func() {
		toGuest.Close()
		in.Close()
		fromGuest.Close()
		out.Close()
	}
	x.machine.Console = &x.console
	if x.verbose {
		x.machine.Console = io.MultiWriter(&x.console, os.Stderr)
	}
	return x.machineWithDevices()
}

// ending is the error with which the command ended, nil for success.
func (x *execution) ending(r agent.Report, result vmm.Result, err, runErr error) error {
	stopped, _ := errors.AsType[*agent.SignalError](err)
	switch {
	case err == nil && (r.Code < 0 || r.Code > 255):
		return fmt.Errorf("the guest reports exit code %d", r.Code) // the system would cut it
	case err == nil && r.Failure != "":
		return exitWith(r.Code, errors.New(r.Failure))
	case err == nil:
		return exitWith(r.Code, nil)
	case stopped != nil:
		return &signalError{stopped.Signal}
	case errors.Is(err, agent.ErrGone):
		if err = outcome(result.Outcome, runErr); err == nil {
			err = fmt.Errorf("the guest ended (%s) before the command did", result.Outcome.Reason)
		}
	case errors.Is(err, agent.ErrBoot), errors.Is(err, agent.ErrReport):
		err = fmt.Errorf("the guest: %w", err)
	case runErr != nil:
		err = outcome(result.Outcome, runErr)
	}
	if log := x.console.String(); log != "" && !x.verbose && exitCode(err) < exitcode.Signal {
		slog.Error("the end of the guest kernel's log:\n" + tailOf(log, shownLines))
	}
	return err
}

// writeLog writes the kernel's log to a file, if there is to be one.
func (x *execution) writeLog(ctx context.Context, file, log string) error {
	if file == "" {
		return nil
	}
	return writeTarget(ctx, file, func(w io.Writer) error {
		_, err := io.WriteString(w, log)
		return err
	})
}

// shownLines is how much is shown of a kernel's log: an oops and a panic, from their
// first line on.
const shownLines = 200

// tailOf returns the last n lines of a text, indented.
func tailOf(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "\r", "")), "\n")
	lines = lines[max(0, len(lines)-n):]
	return "  " + strings.Join(lines, "\n  ")
}

// lastOutput keeps the end of what is written to it.
type lastOutput struct {
	mu   sync.Mutex
	text []byte
}

// keptOutput is how much of it is kept, in bytes.
const keptOutput = 256 << 10

// Write implements io.Writer.
func (l *lastOutput) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	if len(l.text) > 2*keptOutput {
		l.text = append(l.text[:0], l.text[len(l.text)-keptOutput:]...)
	}
	return len(p), nil
}

// String implements fmt.Stringer.
func (l *lastOutput) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text[max(0, len(l.text)-keptOutput):])
}

// ownStreams returns offmap's own streams, for a program that runs elsewhere. The caller
// closes the terminal, which is nil if there is none. It becomes raw when the program
// starts: until then Ctrl-C ends offmap.
func ownStreams() (h agent.Host, tty *terminal.Terminal, err error) {
	h = agent.Host{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if tty, err = terminal.Open(os.Stdin, func(what string) { slog.Debug(what) }); err != nil {
		return h, nil, err
	}
	if tty != nil {
		h.Stdin = tty
	}
	if tty != nil && term.IsTerminal(1) {
		h.Terminal = describeTerminal
		h.Ready = func() {
			if err := tty.Start(); err != nil {
				slog.Warn(err.Error())
			}
		}
	}
	return h, tty, nil
}
