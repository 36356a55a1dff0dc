package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/kvm"
)

// pty is a pseudoterminal, from the side of who looks at it and types.
type pty struct {
	master, slave *os.File

	mu  sync.Mutex
	out bytes.Buffer
}

func newPTY(t *testing.T) *pty {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED: no pseudoterminal: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	tm := &pty{master: master, slave: slave}
	tm.resize(t, 80, 24)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			tm.mu.Lock()
			tm.out.Write(buf[:n])
			tm.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return tm
}

func (tm *pty) resize(t *testing.T, w, h uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(tm.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: w, Row: h}); err != nil {
		t.Fatal(err)
	}
}

// await waits until all of want has been shown.
func (tm *pty) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !strings.Contains(tm.shown(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never shown: %q; what is: %q", want, tm.shown())
		}
	}
}

func (tm *pty) shown() string {
	tm.mu.Lock()
	defer tm.mu.Unlock()
	return tm.out.String()
}

func (tm *pty) mode(t *testing.T) unix.Termios {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(tm.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *mode
}

// start runs offmap with the terminal as its own.
func (tm *pty) start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"offmap"}, args...), // TestMain goes by the name
		Env:   append(os.Environ(), "TERM=xterm-256color", "COLORTERM=truecolor", "LANG=C.UTF-8", "LC_ALL=", "NO_COLOR="),
		Stdin: tm.slave, Stdout: tm.slave, Stderr: tm.slave,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

// TestLive ends a run with --live in every way: each leaves the terminal as it
// was, and the console's last lines on it.
func TestLive(t *testing.T) {
	if sys, err := kvm.Open(""); err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	} else {
		sys.Close()
	}
	type how = func(t *testing.T, tm *pty, p *os.Process)
	typing := func(s string) how {
		return func(t *testing.T, tm *pty, _ *os.Process) {
			if _, err := tm.master.WriteString(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal := func(s syscall.Signal) how {
		return func(_ *testing.T, _ *pty, p *os.Process) { p.Signal(s) }
	}
	for _, c := range []struct {
		name string
		end  how
		args []string
		code int
	}{
		{"q", typing("q"), nil, 0},
		{"Ctrl-C", typing("\x03"), nil, 0},
		{"Ctrl-a x", typing("\x01x"), nil, 0},
		{"SIGINT", signal(syscall.SIGINT), nil, 130},
		{"SIGTERM", signal(syscall.SIGTERM), nil, 143},
		{"SIGHUP", signal(syscall.SIGHUP), nil, 129},
		{"the guest's own", typing("\n"), nil, 0},
		{"the guest's reset", typing("r"), nil, 32},
		{"timeout", typing(""), []string{"--timeout", "2s"}, 124},
	} {
		t.Run(c.name, func(t *testing.T) {
			tm := newPTY(t)
			before := tm.mode(t)
			args := append([]string{"run", "--live", "--payload", "canary", "-m", "32", "--backend", "anon"}, c.args...)
			cmd := tm.start(t, args...)
			tm.await(t, "offmap-canary: planted")
			tm.await(t, "100.00 %") // its RAM, of which all has been written
			if during := tm.mode(t); reflect.DeepEqual(before, during) {
				t.Error("the terminal isn't raw while the guest runs")
			}
			c.end(t, tm, cmd.Process)
			err := cmd.Wait()
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			const off, on = "\x1b[?1049l", "\x1b[?1049h"
			tm.await(t, off)
			out := tm.shown()
			if strings.Count(out, on) != 1 || strings.Count(out, off) != 1 || !strings.Contains(out[strings.LastIndex(out, off):], "offmap-canary: planted") {
				t.Errorf("the terminal isn't given back once, with the console's last lines: %q", out[max(0, len(out)-500):])
			}
			if after := tm.mode(t); !reflect.DeepEqual(before, after) {
				t.Errorf("the terminal's mode is %+v, was %+v", after, before)
			}
		})
	}
}

// TestLiveResizes makes the terminal larger while a guest runs.
func TestLiveResizes(t *testing.T) {
	if sys, err := kvm.Open(""); err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	} else {
		sys.Close()
	}
	tm := newPTY(t)
	tm.start(t, "run", "--live", "--payload", "canary", "-m", "32")
	tm.await(t, "offmap-canary: planted")
	if strings.Contains(tm.shown(), "\x1b[40;1H") {
		t.Fatal("a line was drawn that the terminal hasn't got")
	}
	tm.resize(t, 100, 40)
	tm.await(t, "\x1b[40;1H")
}
