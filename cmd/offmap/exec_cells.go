package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/matrix"
	"offmap/internal/process/exitcode"
	"offmap/internal/process/pdeathsig"
)

// cellRunner runs the cells of a matrix, each as a process of its own. So the end of one,
// its memory and its signals are nothing to the others.
type cellRunner struct {
	program string // the cells' program: offmap
	// stdout and stderr return the streams of a cell, whose lines get a prefix.
	stdout, stderr func(prefix string) io.WriteCloser
	keep           bool // keep the end of a cell's output in its result
}

// reportFlag has a cell write its report to a pipe that it inherits.
const reportFlag = "--report=/proc/self/fd/3"

// maxReport is the most that is read of a report, in bytes.
const maxReport = 4 << 20

// reportPatience is how long a report may take to arrive once its process has ended.
// Something that the process left behind may still have the pipe.
const reportPatience = 2 * time.Second

// How long a cell may take to end after a signal.
const (
	secondPatience = 5 * time.Second // until the signal comes again, which ends the guest
	cellPatience   = 10 * time.Second
)

// runAll runs the cells, in their order, and so many at a time. args returns the arguments
// of a cell's program. The end of ctx ends the cells that run, and no other is started.
// The error is about this program's own output.
func (r cellRunner) runAll(ctx context.Context, cells []*matrix.Cell, atOnce int, args func(*matrix.Cell) []string) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	errs := make([]error, len(cells))
	for i, c := range cells {
		g.Go(func() error {
			prefix := ""
			if len(cells) > 1 {
				prefix = c.Name + " | "
			}
			errs[i] = r.run(ctx, c, prefix, args(c))
			return nil
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

// run runs one cell.
func (r cellRunner) run(ctx context.Context, c *matrix.Cell, prefix string, args []string) error {
	var outEnd, errEnd lastOutput
	stdout, stderr := r.stdout(prefix), r.stderr(prefix)
	cmd := pdeathsig.Command(ctx, r.program, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&outEnd, stdout), io.MultiWriter(&errEnd, stderr)
	asked := false
	var again *time.Timer
	cmd.Cancel = func() error {
		asked = true
		sig := toForward(ctx)
		again = time.AfterFunc(secondPatience, func() { _ = cmd.Process.Signal(sig) })
		return cmd.Process.Signal(sig)
	}
	cmd.WaitDelay = cellPatience

	start := time.Now()
	end, err := runWithReport(cmd)
	c.Duration = milliseconds(time.Since(start))
	if again != nil {
		again.Stop()
	}
	switch {
	case err != nil && ctx.Err() != nil: // no process starts then
	case err != nil:
		c.Result, c.Code, c.Detail = matrix.Failed, exitcode.Exec, err.Error()
	default:
		end.Said, end.Asked = lastMessage(errEnd.String()), asked
		c.Ended(end)
	}
	if r.keep {
		c.Stdout, c.Stderr = outEnd.String(), errEnd.String()
	}
	return errors.Join(stdout.Close(), stderr.Close())
}

// runWithReport runs a cell's process and reads its report.
func runWithReport(cmd *exec.Cmd) (end matrix.End, err error) {
	in, out, err := os.Pipe()
	if err != nil {
		return end, err
	}
	defer in.Close()
	cmd.ExtraFiles = []*os.File{out}
	err = pdeathsig.Start(cmd)
	out.Close()
	if err != nil {
		return end, err
	}
	report := make(chan *guestrun.Document)
	go func() {
		text, _ := io.ReadAll(io.LimitReader(in, maxReport)) // as much as came
		doc, err := guestrun.Read(bytes.NewReader(text))
		if err != nil {
			doc = nil
		}
		report <- doc
	}()
	_ = cmd.Wait() // ProcessState says it
	if err := in.SetReadDeadline(time.Now().Add(reportPatience)); err != nil {
		return end, err
	}
	end.Run = <-report
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if end.Code = status.ExitStatus(); status.Signaled() {
		end.Killed = status.Signal()
		end.Code = exitcode.Signal + int(end.Killed)
	}
	return end, nil
}

// toForward is the signal for the cells when ctx has ended.
func toForward(ctx context.Context) syscall.Signal {
	s, ok := errors.AsType[*signalError](context.Cause(ctx))
	if !ok || !slices.Contains([]syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT}, s.Signal) {
		return syscall.SIGTERM
	}
	return s.Signal
}

// lastMessage is the last message of a cell's offmap on its standard error.
func lastMessage(text string) (last string) {
	for line := range strings.Lines(text) {
		if m, ok := strings.CutPrefix(line, "offmap: "); ok {
			last = strings.TrimSpace(m)
		}
	}
	if len(last) > 4*maxQuote {
		last = fmt.Sprintf("%.*s...", 4*maxQuote, last)
	}
	return last
}
