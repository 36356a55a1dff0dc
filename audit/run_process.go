package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/guest/protocol"
	"offmap/internal/process/exitcode"
	"offmap/internal/process/pdeathsig"
)

const (
	guestCommand = "canary -hold"
	guestPayload = "canary"
)

// runProcess is an `offmap run` in a process of its own, whose guest has planted a
// canary and waits. With only pid and canary it is one that ran already.
type runProcess struct {
	column int
	pid    int
	canary canary.Canary
	// planted is in how many pages it planted its canary. kept is in how many
	// it still had it at the end, as far as it could be asked.
	planted, kept int

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Scanner
	stderr strings.Builder
	// left are pidfds of the VMM's children, which may outlive it for a moment.
	left []int
	done bool
}

func (g *runProcess) target() Target { return Target{PID: g.pid, Canary: g.canary} }

// start runs a guest of the column, with further flags, until it has planted its canary.
func (a *auditRun) start(ctx context.Context, column int, flags ...string) (*runProcess, error) {
	c := a.Columns[column]
	if c.Running != nil {
		return &runProcess{column: column, pid: c.Running.PID, canary: c.Running.Canary, done: true}, nil
	}
	args := []string{
		"run", "--quiet", "--memory", strconv.FormatUint(a.Memory, 10) + "B",
		"--backend", string(c.Backend), "--attach", string(c.Attach),
	}
	if a.Kernel == "" {
		args = append(args, "--payload", guestPayload)
	} else {
		args = append(args, "--kernel", a.Kernel, "--append", "quiet", "--exec", guestCommand)
	}
	if c.Window > 0 {
		args = append(args, "--window", strconv.FormatUint(c.Window, 10)+"B")
	}
	g := &runProcess{column: column}
	if err := g.start(ctx, append(args, flags...)); err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	var err error
	if a.during, err = ReadDirectMap(); err != nil {
		g.kill()
		return nil, err
	}
	return g, nil
}

func (g *runProcess) start(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	g.cmd = pdeathsig.Command(ctx, self, args...)
	g.cmd.Args[0] = "offmap" // whatever the file is called
	g.cmd.Stderr = &g.stderr
	if g.stdin, err = g.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	g.lines = bufio.NewScanner(out)
	if err := pdeathsig.Start(g.cmd); err != nil {
		return fmt.Errorf("start a guest: %w", err)
	}
	g.pid = g.cmd.Process.Pid
	if err := g.inTime(g.awaitCanary); err != nil {
		g.cmd.Process.Kill()
		g.done = true
		return g.explain(errors.Join(err, g.cmd.Wait()))
	}
	return nil
}

// guestTime is how long a guest may take to plant its canary, and to end. In
// the lab, where the processor is emulated, it takes seconds.
var guestTime = 5 * time.Minute

// inTime calls f, which waits for the guest, and kills a guest that takes too
// long.
func (g *runProcess) inTime(f func() error) error {
	late := time.AfterFunc(guestTime, func() { g.cmd.Process.Kill() })
	err := f()
	if !late.Stop() {
		return fmt.Errorf("killed, since it took more than %v", guestTime)
	}
	return err
}

// awaitCanary reads the guest's console until the canary is planted.
func (g *runProcess) awaitCanary() error {
	for g.lines.Scan() {
		line := strings.TrimSpace(g.lines.Text())
		if line == protocol.CanaryPlanted {
			if g.planted == 0 {
				return errors.New("the guest planted no canary")
			}
			return nil
		}
		if masked, pages, ok := protocol.ParseCanaryLine(line); ok {
			c, err := canary.Parse(masked)
			if err != nil {
				return err
			}
			g.canary, g.planted = c, pages
		}
	}
	return errors.Join(errors.New("the guest ended before it had planted its canary"), g.lines.Err())
}

// end ends the guest in the given way, and waits until all its processes are
// gone. It leaves a guest alone that ran already.
func (g *runProcess) end(how Moment) error {
	if g.done {
		return nil
	}
	g.done = true
	g.watchChildren()
	defer g.closeChildren()
	code := 0
	switch how {
	case AfterKill:
		g.kept = g.planted // it has had no chance to lose it since it said so
		g.cmd.Process.Kill()
		g.cmd.Wait()
		return g.awaitChildren()
	case AfterReset:
		g.kept = g.planted
		code = exitcode.Reset
		io.WriteString(g.stdin, protocol.CanaryReset)
	default:
		io.WriteString(g.stdin, protocol.CanaryCheck)
	}
	err := g.inTime(func() error {
		for g.lines.Scan() {
			if held, _, ok := protocol.ParseCanaryHeldLine(strings.TrimSpace(g.lines.Text())); ok {
				g.kept = held
			}
		}
		return g.cmd.Wait()
	})
	if g.cmd.ProcessState.ExitCode() == code && code != 0 {
		err = nil
	}
	if err != nil {
		return g.explain(err)
	}
	if code != g.cmd.ProcessState.ExitCode() {
		return g.explain(fmt.Errorf("exit code %d, want %d", g.cmd.ProcessState.ExitCode(), code))
	}
	return g.awaitChildren()
}

// kill makes sure that the guest is gone. It may have ended already.
func (g *runProcess) kill() {
	if g == nil || g.done {
		return
	}
	g.done = true
	g.cmd.Process.Kill()
	g.cmd.Wait()
}

// watchChildren opens pidfds of the VMM's children, such as a window's scrubber.
func (g *runProcess) watchChildren() {
	stats, _ := os.ReadDir("/proc")
	for _, d := range stats {
		pid, err := strconv.Atoi(d.Name())
		if err != nil || parent(pid) != g.pid {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			g.left = append(g.left, fd)
		}
	}
}

// parent is the parent of a process, 0 if it has none or is gone.
func parent(pid int) int {
	_, ppid := stat(pid)
	return ppid
}

// running reports whether a process has not ended. A zombie has.
func running(pid int) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z" && state != "X"
}

// stat reads the state and the parent of a process, proc_pid_stat(5).
func stat(pid int) (state string, parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// awaitChildren waits until they are gone as well.
func (g *runProcess) awaitChildren() error {
	const patience = time.Minute // a scrubber wipes a window in milliseconds
	for deadline := time.Now().Add(patience); len(g.left) > 0; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(g.left[0]), Events: unix.POLLIN}}, int(time.Until(deadline).Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll of a pidfd: %w", err)
		case n == 0:
			return fmt.Errorf("the guest's VMM left a process that hasn't ended after %v", patience)
		default:
			unix.Close(g.left[0])
			g.left = g.left[1:]
		}
	}
	return nil
}

func (g *runProcess) closeChildren() {
	for _, fd := range g.left {
		unix.Close(fd)
	}
	g.left = nil
}

func (g *runProcess) explain(err error) error {
	if said := strings.TrimSpace(g.stderr.String()); said != "" {
		err = fmt.Errorf("%w: it said:\n%s", err, said)
	}
	return fmt.Errorf("guest: %w", err)
}
