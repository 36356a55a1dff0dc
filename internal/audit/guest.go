package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"offmap/memory/exposure"
)

// The lines by which the guest's canary program tells what it did.
const (
	canaryLine   = "offmap-canary: "
	canaryHold   = canaryLine + "planted"
	canaryKept   = canaryLine + "held in "
	guestCommand = "canary -hold"
)

// guest is an `offmap run` of its own process, whose guest has planted a
// canary and holds it until it is told to go on. Another process, so that it
// can be looked at from outside and after it is gone.
type guest struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr strings.Builder

	canary  exposure.Canary
	planted int
	kept    int
}

// startGuest runs a guest with the arguments of `offmap run`, up to the moment
// when its canary is planted.
func startGuest(ctx context.Context, args []string) (*guest, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	g := &guest{}
	g.cmd = exec.CommandContext(ctx, self, append(args, "--exec", guestCommand)...)
	// The guest must not survive us, nor a Ctrl-C reach it before us.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	g.cmd.Cancel = func() error { return g.cmd.Process.Signal(syscall.SIGTERM) }
	g.cmd.WaitDelay = 10 * time.Second
	g.cmd.Stderr = &g.stderr
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.lines = bufio.NewScanner(out)
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a guest: %w", err)
	}
	if err := g.awaitCanary(); err != nil {
		g.cmd.Process.Kill()
		return nil, g.fail(err)
	}
	return g, nil
}

// awaitCanary reads the guest's console until the canary is planted.
func (g *guest) awaitCanary() error {
	for g.lines.Scan() {
		line := strings.TrimSpace(g.lines.Text())
		switch {
		case line == canaryHold:
			if g.planted == 0 {
				return errors.New("the guest planted no canary")
			}
			return nil
		case strings.HasPrefix(line, canaryLine):
			var text string
			if _, err := fmt.Sscanf(strings.TrimPrefix(line, canaryLine), "%s pages=%d", &text, &g.planted); err != nil {
				return fmt.Errorf("the guest's line %q: %w", line, err)
			}
			var err error
			if g.canary, err = exposure.Parse(text); err != nil {
				return err
			}
		}
	}
	return errors.Join(errors.New("the guest ended before it had planted its canary"), g.lines.Err())
}

// finish lets the guest check its canary and power off, and waits until its
// process is gone.
func (g *guest) finish() error {
	if _, err := io.WriteString(g.stdin, "\n"); err != nil {
		g.cmd.Process.Kill()
		return g.fail(err)
	}
	for g.lines.Scan() {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(g.lines.Text()), canaryKept); ok {
			fmt.Sscanf(rest, "%d", &g.kept)
		}
	}
	if err := g.cmd.Wait(); err != nil {
		return g.explain(err)
	}
	return nil
}

// fail waits for a guest that went wrong and says what it said.
func (g *guest) fail(err error) error {
	return g.explain(errors.Join(err, g.cmd.Wait()))
}

func (g *guest) explain(err error) error {
	if said := strings.TrimSpace(g.stderr.String()); said != "" {
		err = fmt.Errorf("%w: it said:\n%s", err, said)
	}
	return fmt.Errorf("guest: %w", err)
}
