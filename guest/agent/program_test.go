package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// insideEnv makes the test's program the inside: process 1 of a PID namespace of its own,
// since Run kills all processes that it can see. Its value is the Command.
const insideEnv = "OFFMAP_TEST_INSIDE"

func TestMain(m *testing.M) {
	if text := os.Getenv(insideEnv); text != "" {
		os.Exit(inside(text))
	}
	os.Exit(m.Run())
}

// inside runs a command, with the connection to the host as descriptor 3.
func inside(text string) int {
	var c Command
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		panic(err)
	}
	if os.Getpid() != 1 {
		panic("not process 1")
	}
	conn := NewConn(os.NewFile(3, "host"))
	if err := conn.SendJSON(Exit, Run(c, conn)); err != nil {
		panic(err)
	}
	return 0
}

// machine is the inside, and the connection to it.
type machine struct {
	*exec.Cmd
	net.Conn
}

func startMachine(t *testing.T, c Command) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: not root, who may make a PID namespace")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	m := &machine{}
	if m.Conn, err = net.FileConn(ours); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	m.Cmd = exec.Command("/proc/self/exe")
	m.Cmd.Env = append(os.Environ(), insideEnv+"="+string(text))
	m.Cmd.Stderr = os.Stderr
	m.Cmd.ExtraFiles = []*os.File{theirs}
	m.Cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if err := m.Cmd.Start(); err != nil {
		t.Skipf("SKIPPED: no PID namespace: %v", err)
	}
	t.Cleanup(func() {
		m.Process.Kill()
		m.Wait()
		m.Close()
	})
	return m
}

// end ends the machine, for Host.End.
func (m *machine) end() {
	m.Process.Kill()
	m.Close()
}

// sh is a shell command.
func sh(script string) Command {
	return Command{Argv: []string{"sh", "-c", script}, Env: os.Environ(), Dir: "/"}
}

// runIn runs a command with a Host, whose End it sets.
func runIn(t *testing.T, c Command, h Host) (r Report, stdout, stderr string, err error) {
	t.Helper()
	m := startMachine(t, c)
	var out, errs bytes.Buffer
	if h.Stdout == nil {
		h.Stdout = &out
	}
	h.Stderr = &errs
	h.End = m.end
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err = h.Converse(ctx, NewConn(m.Conn), &r)
	return r, out.String(), errs.String(), err
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := write("plain", "#!/bin/sh\n", 0o644)
	garbage := write("garbage", "\x7fELF, but for nobody", 0o755)
	script := write("script", "#!/bin/sh\nexit 9\n", 0o755)
	strange := write("strange", "#!/no/such/shell\n", 0o755)
	with := func(c Command, f func(*Command)) Command {
		f(&c)
		return c
	}
	path := func(dirs string) func(*Command) {
		return func(c *Command) { c.Env = []string{"PATH=" + dirs} }
	}
	command := func(name string) Command { return Command{Argv: []string{name}, Env: os.Environ(), Dir: "/"} }
	umask := 0o027
	for _, c := range []struct {
		name           string
		command        Command
		stdin          string
		code           int
		stdout, stderr string
		failure        string // a part of it
	}{
		{name: "exit code", command: sh("exit 41"), code: 41},
		{name: "streams", command: sh("cat; echo error >&2"), stdin: "in\x00put", stdout: "in\x00put", stderr: "error\n"},
		{name: "signal", command: sh("kill -TERM $$"), code: 128 + 15},
		{name: "kill", command: sh("kill -KILL $$"), code: 128 + 9},
		{name: "directory", command: with(sh("pwd"), func(c *Command) { c.Dir = dir }), stdout: dir + "\n"},
		{name: "environment", command: with(sh("echo $A"), func(c *Command) { c.Env = append(c.Env, "A=b c") }), stdout: "b c\n"},
		{name: "umask", command: with(sh("umask"), func(c *Command) { c.Umask = &umask }), stdout: "0027\n"},
		{name: "user", command: with(sh("id -u; id -g; id -G; echo x > /dev/stdout"), func(c *Command) {
			c.User = &User{UID: 1234, GID: 2345, Groups: []uint32{2345, 3456}}
		}), stdout: "1234\n2345\n2345 3456\nx\n"},
		{name: "left behind", command: sh("sleep 1000 & echo done"), stdout: "done\n"},
		{name: "found in PATH", command: with(command("script"), path("/no/such:"+dir)), code: 9},
		{name: "relative", command: with(command("./script"), func(c *Command) { c.Dir = dir }), code: 9},
		{name: "empty PATH entry", command: with(command("script"), func(c *Command) { c.Dir = dir; path(":/bin")(c) }), code: 9},
		{name: "not found", command: command("no-such-command"), code: 127, failure: "no-such-command: not found in PATH"},
		{name: "no such file", command: command("/no/such/command"), code: 127, failure: "no such file"},
		{name: "no interpreter", command: command(strange), code: 127, failure: "no such file"},
		{name: "not executable", command: command(plain), code: 126, failure: "permission denied"},
		{name: "not executable in PATH", command: with(command("plain"), path(dir)), code: 126, failure: "not executable"},
		{name: "not for this machine", command: command(garbage), code: 126, failure: "exec format error"},
		{name: "directory as a command", command: command(dir), code: 126, failure: "permission denied"},
		{name: "no directory", command: with(command(script), func(c *Command) { c.Dir = "/no/such" }), code: 126, failure: "/no/such"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, stdout, stderr, err := runIn(t, c.command, Host{Stdin: strings.NewReader(c.stdin)})
			if err != nil || r.Code != c.code || stdout != c.stdout || stderr != c.stderr {
				t.Errorf("%+v, stdout %q, stderr %q, %v; want code %d, %q, %q", r, stdout, stderr, err, c.code, c.stdout, c.stderr)
			}
			if (c.failure == "") != (r.Failure == "") || !strings.Contains(r.Failure, c.failure) {
				t.Errorf("failure %q, want %q", r.Failure, c.failure)
			}
		})
	}
}

// TestRunBinary sends bytes there and back.
func TestRunBinary(t *testing.T) {
	in := make([]byte, 3<<20+17)
	rand.Read(in)
	_, out, _, err := runIn(t, sh("cat"), Host{Stdin: bytes.NewReader(in)})
	if err != nil || out != string(in) {
		t.Errorf("%d bytes of %d came back, and not the same: %v", len(out), len(in), err)
	}
}

// TestRunUnreadInput gives input to a program that doesn't want it.
func TestRunUnreadInput(t *testing.T) {
	r, _, _, err := runIn(t, sh("exec true"), Host{Stdin: bytes.NewReader(make([]byte, 10<<20))})
	if err != nil || r.Code != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// said is a writer that tells when it got a text.
type said struct {
	bytes.Buffer
	text string
	then func()
}

func (s *said) Write(p []byte) (int, error) {
	n, err := s.Buffer.Write(p)
	if s.then != nil && strings.Contains(s.String(), s.text) {
		s.then()
		s.then = nil
	}
	return n, err
}

func TestSignals(t *testing.T) {
	for _, c := range []struct {
		name    string
		script  string
		signals []syscall.Signal
		code    int
		stdout  string
	}{
		{"default", "echo up; sleep 1000", []syscall.Signal{syscall.SIGTERM}, 128 + 15, "up\n"},
		{"children too", "sleep 1000 & echo up; wait; echo not reached", []syscall.Signal{syscall.SIGTERM}, 128 + 15, "up\n"},
		{"caught", "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.01; done", []syscall.Signal{syscall.SIGTERM}, 5, "up\ngot\n"},
		{"others don't count", "trap 'echo one' USR1; trap 'echo end; exit 6' TERM; echo up; while :; do sleep 0.01; done",
			[]syscall.Signal{syscall.SIGUSR1, syscall.SIGTERM}, 6, "up\none\nend\n"},
		{"twice at once is once", "trap 'n=x$n' TERM; echo up; while [ -z \"$n\" ]; do sleep 0.01; done; sleep 0.1; exit 7",
			[]syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, 7, "up\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			signals := make(chan os.Signal, len(c.signals))
			out := &said{text: "up\n", then: func() {
				for _, s := range c.signals {
					signals <- s
				}
			}}
			r, _, _, err := runIn(t, sh(c.script), Host{Signals: signals, Stdout: out})
			if err != nil || r.Code != c.code || out.String() != c.stdout {
				t.Errorf("%+v, %q, %v; want code %d and %q", r, out.String(), err, c.code, c.stdout)
			}
		})
	}
}

// TestTerminal runs a program on a terminal, and changes that terminal's size.
func TestTerminal(t *testing.T) {
	sizes := []Terminal{{Rows: 24, Cols: 80}, {Rows: 50, Cols: 132}}
	c := sh("trap 'stty size; exit' WINCH; tty; stty size; while :; do sleep 0.01; done")
	c.Terminal = &sizes[0]
	signals := make(chan os.Signal, 1)
	out := &said{text: "24 80", then: func() { signals <- syscall.SIGWINCH }}
	r, _, _, err := runIn(t, c, Host{Signals: signals, Stdout: out, Terminal: func() Terminal { return sizes[1] }})
	lines := strings.Fields(out.String())
	if err != nil || r.Code != 0 || len(lines) != 5 || !strings.HasPrefix(lines[0], "/dev/pts/") || strings.Join(lines[1:], " ") != "24 80 50 132" {
		t.Errorf("%+v, %q, %v", r, out.String(), err)
	}
}

// keys is a reader whose Read can be ended, as a terminal's.
type keys struct{ *io.PipeReader }

func (k keys) Interrupt() { k.Close() }

// TestTerminalKeys types Ctrl-C.
func TestTerminalKeys(t *testing.T) {
	c := sh("echo up; read line") // a shell that starts a process may miss the signal
	c.Terminal = &Terminal{Rows: 24, Cols: 80}
	typed, keyboard := io.Pipe()
	defer keyboard.Close()
	out := &said{text: "up", then: func() { go keyboard.Write([]byte{3}) }}
	r, _, _, err := runIn(t, c, Host{Stdin: keys{typed}, Stdout: out})
	if err != nil || r.Code != 128+2 {
		t.Errorf("%+v, %q, %v", r, out.String(), err)
	}
}

// TestConverseEnds ends the machine, or its program's output, from outside.
func TestConverseEnds(t *testing.T) {
	errFull := errors.New("full")
	for _, c := range []struct {
		name string
		end  func(context.CancelCauseFunc, *machine)
		out  error
		want error
	}{
		{name: "context", end: func(cancel context.CancelCauseFunc, _ *machine) { cancel(errFull) }, want: errFull},
		{name: "machine", end: func(_ context.CancelCauseFunc, m *machine) { m.Process.Kill() }, want: ErrGone},
		{name: "output", end: func(context.CancelCauseFunc, *machine) {}, out: errFull, want: errFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := startMachine(t, sh("echo up; sleep 1000"))
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			out := &said{text: "up", then: func() { c.end(cancel, m) }}
			h := Host{Stdout: failing{out, c.out}, Stderr: io.Discard, End: m.end}
			if _, err := h.Converse(ctx, NewConn(m.Conn), &Report{}); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// failing is a writer that fails with err, if that is one.
type failing struct {
	io.Writer
	err error
}

func (f failing) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Writer.Write(p)
}

// TestSignalBeforeStart ends a machine whose program doesn't run yet, and one at the
// second signal.
func TestSignalBeforeStart(t *testing.T) {
	for _, ready := range []bool{false, true} {
		ours, theirs := net.Pipe()
		signals := make(chan os.Signal, 1)
		go func() {
			conn := NewConn(theirs)
			if ready {
				conn.Send(Ready, nil)
				signals <- syscall.SIGTERM
				for k := Kind(0); k != Signal; {
					k, _, _ = conn.Receive()
				}
				time.Sleep(2 * sameSignal)
			}
			signals <- syscall.SIGTERM
		}()
		h := Host{Stdout: io.Discard, Stderr: io.Discard, Signals: signals, End: func() { ours.Close(); theirs.Close() }}
		_, err := h.Converse(t.Context(), NewConn(ours), &Report{})
		if s, ok := err.(*SignalError); !ok || s.Signal != syscall.SIGTERM {
			t.Errorf("ready %v: %v", ready, err)
		}
	}
}
