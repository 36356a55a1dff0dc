package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/matrix"
)

// watched is a stream of several cells, which calls seen with all of its text so far.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	seen func(string)
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(p)
	if w.seen != nil {
		w.seen(w.text.String())
	}
	return n, err
}

// runScripts runs a shell script for each cell, in place of offmap exec.
func runScripts(t *testing.T, ctx context.Context, atOnce int, out *watched, scripts ...string) []*matrix.Cell {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var mu sync.Mutex
	add := func(prefix string) io.WriteCloser { return &lines{mu: &mu, to: out, prefix: prefix} }
	r := cellRunner{program: "/bin/sh", stdout: add, stderr: add, keep: true}
	var cells []*matrix.Cell
	script := map[*matrix.Cell]string{}
	for i, s := range scripts {
		c := &matrix.Cell{Name: fmt.Sprint("c", i), Result: matrix.NotRun}
		cells, script[c] = append(cells, c), s
	}
	if err := r.runAll(ctx, cells, atOnce, func(c *matrix.Cell) []string { return []string{"-c", script[c]} }); err != nil {
		t.Error(err)
	}
	return cells
}

// reports is a script's command that writes the report of a guest.
func reports(reason string) string {
	return fmt.Sprintf(`echo '{"schema":"%s","exit":{"reason":"%s"}}' >/proc/self/fd/3; `, guestrun.Schema, reason)
}

// TestCells runs programs that end in every way.
func TestCells(t *testing.T) {
	tests := []struct {
		script string
		want   matrix.Result
		code   int
		detail string
	}{
		{reports("poweroff"), matrix.OK, 0, ""},
		{reports("poweroff") + "exit 7", matrix.Exit, 7, ""},
		{reports("poweroff") + "exit 134", matrix.Signal, 134, ""},
		{"cat; " + reports("poweroff") + "exit 1", matrix.Exit, 1, ""}, // standard input is empty
		{reports("panic") + "echo offmap: it died >&2; exit 34", matrix.Panic, 34, "it died"},
		{"echo offmap: first >&2; echo offmap: no kernel >&2; exit 4", matrix.Cannot, 4, "no kernel"},
		{"exit 0", matrix.Failed, 0, "offmap exec ended with exit code 0"},
		{"echo '{' >&3; exit 0", matrix.Failed, 0, "offmap exec ended with exit code 0"},
		{reports("poweroff") + "kill -KILL $$", matrix.Failed, 137, "offmap exec was killed: killed"},
		{"echo 'offmap: '" + strings.Repeat("x", 9000) + " >&2; exit 125", matrix.Failed, 125, strings.Repeat("x", 4*maxQuote) + "..."},
	}
	var scripts []string
	for _, tt := range tests {
		scripts = append(scripts, tt.script)
	}
	var out watched
	for i, c := range runScripts(t, t.Context(), 3, &out, scripts...) {
		if tt := tests[i]; c.Result != tt.want || c.Code != tt.code || c.Detail != tt.detail || c.Duration <= 0 {
			t.Errorf("%q: %+v, want %+v", tt.script, *c, tt)
		}
	}
}

// TestCellsReportStays has a cell leave a process behind that keeps its report open.
func TestCellsReportStays(t *testing.T) {
	t.Parallel()
	var out watched
	c := runScripts(t, t.Context(), 1, &out, reports("poweroff")+"sleep 600 >/dev/null 2>&1 & echo $!")[0]
	if c.Result != matrix.OK {
		t.Errorf("%+v", c)
	}
	left, err := strconv.Atoi(strings.TrimSpace(c.Stdout))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(left, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// TestCellsAtOnce checks that as many cells run at a time as may, and not more.
func TestCellsAtOnce(t *testing.T) {
	dir := t.TempDir()
	var scripts []string
	for i := range 6 {
		here := fmt.Sprintf("cd %s; mkdir run%d; ls -d run* | wc -l; ", dir, i)
		// Either of two opens a pipe only once the other does.
		meet := fmt.Sprint("meet", i/2)
		if i%2 == 1 {
			here += "cat <" + meet + "; "
		} else if here += "echo >" + meet + "; "; unix.Mkfifo(filepath.Join(dir, meet), 0o600) != nil {
			t.Fatal("no pipe")
		}
		scripts = append(scripts, here+fmt.Sprintf("rmdir run%d; ", i)+reports("poweroff"))
	}
	var out watched
	for _, c := range runScripts(t, t.Context(), 2, &out, scripts...) {
		if c.Result != matrix.OK || !strings.HasPrefix(c.Stdout, "1\n") && !strings.HasPrefix(c.Stdout, "2\n") {
			t.Errorf("%+v", c)
		}
	}
}

// TestCellsOutput has cells print at the same time, in small pieces.
func TestCellsOutput(t *testing.T) {
	script := `i=0; while [ $i -lt 200 ]; do printf 'line '; printf "$i\n"; i=$((i+1)); done; printf end >&2; ` + reports("poweroff")
	var out watched
	cells := runScripts(t, t.Context(), 4, &out, script, script, script, script)
	next := map[string]int{}
	for line := range strings.Lines(out.text.String()) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " | ")
		if text == "end" {
			next[name] += 1000
			continue
		}
		if want := fmt.Sprint("line ", next[name]%1000); text != want {
			t.Fatalf("%q, want %q", line, want)
		}
		next[name]++
	}
	for _, c := range cells {
		if next[c.Name] != 1200 || c.Stderr != "end" || !strings.HasSuffix(c.Stdout, "line 199\n") {
			t.Errorf("%s: %d lines, %q", c.Name, next[c.Name], c.Stderr)
		}
	}
}

// TestCellsSignal ends a matrix with a signal: cells get it, again if they don't end, and
// those whose turn hasn't come aren't run.
func TestCellsSignal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sig  syscall.Signal
		trap string
	}{
		{syscall.SIGINT, "INT"}, {syscall.SIGHUP, "HUP"}, {syscall.SIGTERM, "TERM"}, {syscall.SIGUSR1, "TERM"},
	} {
		t.Run(tt.sig.String(), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			loop := "echo ready; while :; do sleep 0.01; done"
			scripts := []string{
				"trap 'exit 42' " + tt.trap + "; " + loop,
				"end() { " + reports("poweroff") + "exit 0; }; trap end " + tt.trap + "; " + loop,
				"trap 'echo once; trap \"exit 43\" " + tt.trap + "' " + tt.trap + "; " + loop,
				"echo not to be run", "echo not to be run",
			}
			out := watched{seen: func(text string) {
				if strings.Count(text, "ready") == 3 {
					cancel(&signalError{tt.sig})
				}
			}}
			cells := runScripts(t, ctx, 3, &out, scripts...)
			for i, want := range []struct {
				matrix.Result
				code int
			}{{matrix.Stopped, 42}, {matrix.OK, 0}, {matrix.Stopped, 43}, {matrix.NotRun, 0}, {matrix.NotRun, 0}} {
				if c := cells[i]; c.Result != want.Result || c.Code != want.code {
					t.Errorf("cell %d: %+v, want %+v", i, *c, want)
				}
			}
			if strings.Contains(out.text.String(), "not to be run") {
				t.Error("a cell was started after the signal")
			}
		})
	}
}

// TestCellsNoProgram can't start cells.
func TestCellsNoProgram(t *testing.T) {
	r := cellRunner{program: filepath.Join(t.TempDir(), "none"), stdout: discard, stderr: discard}
	c := &matrix.Cell{Result: matrix.NotRun}
	before, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.runAll(t.Context(), []*matrix.Cell{c}, 1, func(*matrix.Cell) []string { return nil }); err != nil {
		t.Error(err)
	}
	if c.Result != matrix.Failed || !strings.Contains(c.Detail, "no such file") {
		t.Errorf("%+v", c)
	}
	if after, err := os.ReadDir("/proc/self/fd"); err != nil || len(after) > len(before) {
		t.Errorf("%d descriptors, %d before: %v", len(after), len(before), err)
	}
}

func discard(string) io.WriteCloser { return &lines{mu: &sync.Mutex{}, to: io.Discard} }
