package e2e

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/audit/canary"
	"offmap/internal/lab/outside"
)

// patience is how long a command may take that isn't known to take longer, and
// how long what a guest does. It is for what hangs, and far more than any takes
// in a lab that has a processor to itself.
const patience = 10 * time.Minute

// command is a command that has so long. Then it is made to say where it
// stands, as a Go program does at SIGABRT, and ends.
func command(t *testing.T, timeout time.Duration, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGABRT) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// guest is an `offmap run` that a test watches, and ends in its own way.
type guest struct {
	*exec.Cmd
	input io.Writer
	out   syncBuffer // stdout and stderr
}

// start runs the program. It is dead at the test's end.
func start(t *testing.T, cmd *exec.Cmd) *guest {
	t.Helper()
	g := &guest{Cmd: cmd}
	g.Stdout, g.Stderr = &g.out, &g.out
	var err error
	if g.input, err = g.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Process.Kill()
		g.Wait()
	})
	return g
}

// startRun runs `offmap run` with args.
func startRun(t *testing.T, args ...string) *guest {
	t.Helper()
	return start(t, command(t, 2*patience, "./offmap", append([]string{"run"}, args...)...))
}

// await waits until the guest has said a text.
func (g *guest) await(t *testing.T, text string) {
	t.Helper()
	for start := time.Now(); !strings.Contains(g.out.String(), text); time.Sleep(20 * time.Millisecond) {
		if !g.alive() || time.Since(start) > patience {
			t.Fatalf("the guest hasn't said %q after %v:\n%s", text, time.Since(start), g.out.String())
		}
	}
}

// alive reports whether the process hasn't ended; it may not have been waited
// for. /proc/PID/stat doesn't tell: the first thread of a program with several
// is a zombie for a moment while another one of them executes something.
func (g *guest) alive() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, g.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo == 0
}

// ended waits for the process's end and returns its exit code, 128+n for
// signal n.
func (g *guest) ended() int {
	g.Wait()
	if s := g.ProcessState.Sys().(syscall.WaitStatus).Signal(); s > 0 {
		return 128 + int(s)
	}
	return g.ProcessState.ExitCode()
}

// process is a process that isn't our child, in our hands whatever becomes of
// its number.
type process struct{ pid, fd int }

// scrubber finds the guest's scrubber, or waits for it.
func (g *guest) scrubber(t *testing.T) process {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		if pids := scrubbers(g.Process.Pid); len(pids) > 0 {
			fd, err := unix.PidfdOpen(pids[0], 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
			return process{pids[0], fd}
		}
		if !g.alive() || time.Since(start) > patience {
			t.Fatalf("the guest has no scrubber after %v:\n%s", time.Since(start), g.out.String())
		}
	}
}

// scrubbers lists scrubber processes, those of a parent or with 0 all. A
// scrubber that has ended and wasn't waited for counts.
func scrubbers(parent int) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is sound
	for _, dir := range dirs {
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		stat, _ := os.ReadFile(dir + "/stat")
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest) // state, parent...
		if !strings.HasPrefix(string(cmdline), "window-scrubber") || len(fields) < 2 {
			continue
		}
		if parent == 0 || fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone waits for the process's end, and reports whether that came in time.
func (p process) gone(t *testing.T, timeout time.Duration) bool {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatalf("poll of a pidfd: %v", err)
		}
		if n > 0 || err == nil {
			return n > 0
		}
	}
}

// inDirectMap searches the direct map for the canary and returns the number of
// pages that it is in.
func inDirectMap(t *testing.T, c canary.Canary) int {
	t.Helper()
	hits, err := canary.ScanKcore(t.Context(), []canary.Canary{c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return hits[0].Pages
}

// inRAM searches all of the lab's RAM, whoever may read it, from outside: that
// is quicker.
func inRAM(t *testing.T, c canary.Canary) int {
	t.Helper()
	hits, err := outside.Scan(c)
	if err != nil {
		t.Fatal(err)
	}
	return hits[0].Pages
}
