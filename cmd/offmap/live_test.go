package main

import (
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"offmap/guest/protocol"
)

// TestLive ends a run with --live in every way. Each way leaves the terminal as it was,
// with the console's last lines on it.
func TestLive(t *testing.T) {
	needKVM(t)
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
		{"timeout", typing(""), []string{"--timeout", "8s"}, 124},
	} {
		t.Run(c.name, func(t *testing.T) {
			tm := newPTY(t)
			before := tm.mode(t)
			args := append([]string{"run", "--live", "--payload", "canary", "-m", "32", "--backend", "anon"}, c.args...)
			cmd := tm.start(t, args...)
			tm.await(t, protocol.CanaryPlanted)
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
			tm.settle()
			out := tm.shown()
			if strings.Count(out, on) != 1 || strings.Count(out, off) != 1 || !strings.Contains(out[strings.LastIndex(out, off):], protocol.CanaryPlanted) {
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
	needKVM(t)
	tm := newPTY(t)
	tm.start(t, "run", "--live", "--payload", "canary", "-m", "32", "--backend", "memfd")
	tm.await(t, protocol.CanaryPlanted)
	if strings.Contains(tm.shown(), "\x1b[40;1H") {
		t.Fatal("a line was drawn that the terminal hasn't got")
	}
	tm.resize(t, 100, 40)
	tm.await(t, "\x1b[40;1H")
}
