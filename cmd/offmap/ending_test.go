package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/guest/protocol"
	"offmap/vmm/jail/jailtest"
)

// breakEnv says how the program is to end at SIGWINCH, without running its own code
// for an end. It may be an attempt of jailtest's.
const breakEnv = "OFFMAP_TEST_BREAK"

func breakLater() {
	how := os.Getenv(breakEnv)
	if how == "" {
		return
	}
	fd := -1
	attempt, isAttempt := jailtest.All()[how]
	if isAttempt {
		var err error
		if fd, err = attempt.Prepare(); err != nil {
			panic(err)
		}
	}
	now := make(chan os.Signal, 1)
	signal.Notify(now, unix.SIGWINCH)
	go func() {
		<-now
		if isAttempt {
			attempt.Make(fd)
		}
		switch how {
		case "panic":
			panic("as told")
		case "exit":
			os.Exit(7)
		case "fatal error":
			debug.SetMaxStack(1 << 16)
			var deep func(int) int
			deep = func(n int) int { return deep(n+1) + 1 }
			deep(0)
		}
	}()
}

// patience is how long an end may take. On an idle machine it takes at most a second.
const patience = time.Minute

// ending is a way for offmap run to end, while the terminal is raw.
type ending struct {
	name  string
	guest []byte // its code
	args  []string
	setUp func(t *testing.T, cmd *exec.Cmd) // before the start
	end   func(t *testing.T, tm *pty, p *os.Process)
	code  int            // exit code, or
	died  syscall.Signal // the signal that it died by
}

func endings() []ending {
	kill := func(sigs ...syscall.Signal) func(*testing.T, *pty, *os.Process) {
		return func(_ *testing.T, _ *pty, p *os.Process) {
			for _, s := range sigs {
				p.Signal(s)
			}
		}
	}
	typing := func(keys string) func(*testing.T, *pty, *os.Process) {
		return func(t *testing.T, tm *pty, _ *os.Process) { tm.typed(t, keys) }
	}
	var list []ending
	for _, s := range endSignals {
		sig := s.(syscall.Signal)
		list = append(list, ending{name: unix.SignalName(sig), end: kill(sig), code: 128 + int(sig)})
	}
	// Go's runtime reports these, and exits with 2.
	for _, sig := range []syscall.Signal{
		unix.SIGILL, unix.SIGTRAP, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV,
	} {
		list = append(list, ending{name: unix.SignalName(sig), end: kill(sig), code: 2})
	}
	for how, code := range map[string]int{"panic": 2, "fatal error": 2, "exit": 7} {
		list = append(list, ending{name: how + " in a goroutine", end: kill(unix.SIGWINCH), code: code,
			setUp: func(_ *testing.T, cmd *exec.Cmd) { cmd.Env = append(cmd.Env, breakEnv+"="+how) }})
	}
	return append(list,
		ending{name: "SIGKILL", end: kill(unix.SIGKILL), died: unix.SIGKILL},
		ending{name: "SIGTERM twice, as timeout sends it", end: kill(unix.SIGTERM, unix.SIGTERM), code: 143},
		ending{name: "SIGPROF and a real-time signal, which do nothing", end: kill(unix.SIGPROF, 40, unix.SIGTERM), code: 143},
		ending{name: "Ctrl-a x", end: typing("\x01x"), code: 0},
		ending{name: "Ctrl-a x behind much input", end: typing(strings.Repeat("x", 64<<10) + "\x01x"), code: 0},
		ending{name: "SIGTERM with much input", end: func(t *testing.T, tm *pty, p *os.Process) {
			tm.typed(t, strings.Repeat("x", 64<<10))
			p.Signal(unix.SIGTERM)
		}, code: 143},
		ending{name: "--timeout", args: []string{"--timeout", "5s"}, end: typing(""), code: 124},
		ending{name: "the reader of stdout goes", guest: chat, setUp: readOnce(stdout), end: kill(), code: 141},
		ending{name: "the reader of stderr goes", guest: chat, setUp: readOnce(stderr), args: []string{"--json"}, end: kill(), code: 141},
		ending{name: "SIGTERM while nobody reads stdout", guest: chat, setUp: unreadPipe(stdout), end: kill(unix.SIGTERM), code: 143},
		ending{name: "SIGTERM while nobody reads stderr", guest: chat, setUp: unreadPipe(stderr), args: []string{"-q", "--json"}, end: kill(unix.SIGTERM), code: 143},
		ending{name: "--timeout while nobody reads stdout", guest: chat, setUp: unreadPipe(stdout), args: []string{"--timeout", "5s"}, end: kill(), code: 124},
		// Output is lost.
		ending{name: "Ctrl-a x while nobody reads stdout", guest: chat, setUp: unreadPipe(stdout), end: typing("\x01x"), code: 1},
	)
}

func stdout(cmd *exec.Cmd) *io.Writer { return &cmd.Stdout }
func stderr(cmd *exec.Cmd) *io.Writer { return &cmd.Stderr }

// readOnce makes a stream a pipe whose reader goes away after the first bytes.
func readOnce(stream func(*exec.Cmd) *io.Writer) func(*testing.T, *exec.Cmd) {
	return func(t *testing.T, cmd *exec.Cmd) {
		r := pipeOf(t, stream(cmd))
		go func() {
			defer r.Close()
			for seen := false; !seen; { // behind the log
				buf := make([]byte, 4096)
				n, err := r.Read(buf)
				seen = err != nil || bytes.Contains(buf[:n], []byte("...."))
			}
		}()
	}
}

// unreadPipe makes a stream a pipe that is full and that nobody reads.
func unreadPipe(stream func(*exec.Cmd) *io.Writer) func(*testing.T, *exec.Cmd) {
	return func(t *testing.T, cmd *exec.Cmd) {
		r := pipeOf(t, stream(cmd))
		t.Cleanup(func() { r.Close() })
		fd := int((*stream(cmd)).(*os.File).Fd())
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		for page := make([]byte, 4096); ; {
			if _, err := unix.Write(fd, page); err == unix.EAGAIN {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
	}
}

func pipeOf(t *testing.T, stream *io.Writer) *os.File {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	*stream = w
	return r
}

// TestEnds ends offmap run in every way, on a terminal. Each way leaves the terminal as
// it was, no process and no file. docs/ending.md has the results.
func TestEnds(t *testing.T) {
	needKVM(t)
	for _, e := range endings() {
		t.Run(e.name, func(t *testing.T) {
			guest := e.guest
			if guest == nil {
				guest = hang
			}
			tm := newPTY(t)
			before := tm.mode(t)
			temp := t.TempDir()
			cmd := tm.command(t, append([]string{"run", "-m", "32", "--backend", "memfd", "-k", testKernel(t, guest)}, e.args...)...)
			cmd.Dir = temp
			cmd.Env = append(cmd.Env, "TMPDIR="+temp)
			if e.setUp != nil {
				e.setUp(t, cmd)
			}
			tm.run(t, cmd)
			for _, f := range []io.Writer{cmd.Stdout, cmd.Stderr} {
				if f != tm.slave {
					f.(*os.File).Close()
				}
			}
			during := tm.awaitMode(t, cmd, func(m unix.Termios) bool { return !reflect.DeepEqual(m, before) })
			if during.Lflag&unix.ICANON != 0 {
				t.Errorf("the terminal isn't raw: %+v", during)
			}
			if e.guest != nil {
				time.Sleep(300 * time.Millisecond) // so that a pipe is full
			}
			start := time.Now()
			e.end(t, tm, cmd.Process)
			e.check(t, cmd, patience)
			took := time.Since(start)
			after := tm.awaitMode(t, nil, func(m unix.Termios) bool { return reflect.DeepEqual(m, before) })
			tm.noKeeper(t)
			if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
				t.Errorf("files are left: %v, %v", left, err)
			}
			t.Logf("%v after %v, terminal restored: %v", cmd.ProcessState, took.Round(time.Millisecond), reflect.DeepEqual(after, before))
		})
	}
}

// The terminal hangs up.
func TestHangup(t *testing.T) {
	needKVM(t)
	tm := newPTY(t)
	cmd := tm.start(t, "run", "-m", "32", "--backend", "memfd", "-k", testKernel(t, hang))
	tm.awaitMode(t, cmd, func(m unix.Termios) bool { return m.Lflag&unix.ICANON == 0 })
	tm.master.Close()
	tm.slave.WriteString("x") // for the test's own read of it, which keeps it open
	(&ending{code: 129}).check(t, cmd, patience)
	tm.noKeeper(t)
}

// check waits for the process's end.
func (e *ending) check(t *testing.T, cmd *exec.Cmd, limit time.Duration) {
	t.Helper()
	status := awaitEnd(t, cmd, limit)
	if e.died != 0 && (!status.Signaled() || status.Signal() != e.died) || e.died == 0 && status.ExitStatus() != e.code {
		t.Errorf("%v, want exit code %d or death by %v", cmd.ProcessState, e.code, e.died)
	}
}

// awaitEnd waits for a process's end, and fails the test if it isn't there in time.
func awaitEnd(t *testing.T, cmd *exec.Cmd, limit time.Duration) syscall.WaitStatus {
	t.Helper()
	overdue := time.AfterFunc(limit, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	if !overdue.Stop() {
		t.Fatalf("still there after %v", limit)
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// awaitMode waits until the terminal has the wanted mode. cmd, if not nil, has to run
// meanwhile.
func (tm *pty) awaitMode(t *testing.T, cmd *exec.Cmd, want func(unix.Termios) bool) unix.Termios {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		m := tm.mode(t)
		switch {
		case want(m):
			return m
		case time.Now().After(end):
			t.Fatalf("the terminal's mode stays %+v; shown: %q", m, tm.shown())
		}
	}
}

// noKeeper waits until the terminal has no keeper.
func (tm *pty) noKeeper(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left := tm.keepers()
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("left: %q", left)
		}
	}
}

// keepers returns the keepers of the terminal.
func (tm *pty) keepers() (list []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		comm, _ := os.ReadFile(name)
		file, _ := os.Readlink(filepath.Join(filepath.Dir(name), "fd/1"))
		if string(comm) == "terminal-keeper\n" && strings.HasPrefix(file, tm.slave.Name()) {
			list = append(list, filepath.Dir(name))
		}
	}
	return list
}

// shell runs a script of sh(1). The pty is its controlling terminal, and its PATH has an
// offmap.
func (tm *pty) shell(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	cmd := tm.command(t)
	dir := t.TempDir()
	if err := os.Symlink(cmd.Path, filepath.Join(dir, "offmap")); err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script}
	cmd.Env = append(cmd.Env, "PATH="+dir+":"+os.Getenv("PATH"))
	tm.run(t, cmd)
	return cmd
}

const canaryGuest = "offmap run -q -m 32 --backend anon --payload canary"

// TestBackground runs guests in process groups in the terminal's background, and brings
// them to the foreground.
func TestBackground(t *testing.T) {
	needKVM(t)
	isRaw := func(m unix.Termios) bool { return m.Lflag&unix.ICANON == 0 }
	isCooked := func(m unix.Termios) bool { return m.Lflag&unix.ICANON != 0 }
	t.Run("timeout", func(t *testing.T) {
		tm := newPTY(t)
		before := tm.mode(t)
		cmd := tm.shell(t, "timeout 3 offmap run -m 32 -k "+testKernel(t, say("it runs"), hang)+"; echo status $?")
		tm.await(t, "it runs")
		if !reflect.DeepEqual(tm.mode(t), before) {
			t.Error("the terminal's mode is changed from the background")
		}
		tm.await(t, "status 124")
		(&ending{}).check(t, cmd, patience)
	})
	t.Run("foreground later", func(t *testing.T) {
		tm := newPTY(t)
		before := tm.mode(t)
		cmd := tm.shell(t, "set -m; "+canaryGuest+" & read go; echo went $go; fg; echo status $?")
		tm.await(t, protocol.CanaryPlanted)
		tm.typed(t, "on\n")
		tm.await(t, "went on")
		tm.awaitMode(t, cmd, isRaw)
		tm.typed(t, "\n")
		tm.await(t, "held in")
		tm.await(t, "status 0")
		(&ending{}).check(t, cmd, patience)
		tm.noKeeper(t)
		if after := tm.mode(t); !reflect.DeepEqual(after, before) {
			t.Errorf("the terminal's mode is %+v, was %+v", after, before)
		}
	})
	for _, how := range []syscall.Signal{unix.SIGTSTP, unix.SIGSTOP} {
		t.Run("stopped by "+unix.SignalName(how), func(t *testing.T) {
			tm := newPTY(t)
			before := tm.mode(t)
			cmd := tm.shell(t, "set -m; (echo pid $(exec sh -c 'echo $PPID') end; exec "+canaryGuest+"); echo stopped; stty sane; read go; fg; echo status $?")
			tm.await(t, protocol.CanaryPlanted)
			tm.awaitMode(t, cmd, isRaw)
			_, rest, _ := strings.Cut(tm.shown(), "pid ")
			var pid int
			if _, err := fmt.Sscan(rest, &pid); err != nil {
				t.Fatal(err)
			}
			unix.Kill(pid, how)
			tm.await(t, "stopped")
			tm.awaitMode(t, cmd, isCooked)
			tm.typed(t, "on\n")
			tm.awaitMode(t, cmd, isRaw)
			tm.typed(t, "\n")
			tm.await(t, "held in")
			tm.await(t, "status 0")
			(&ending{}).check(t, cmd, patience)
			tm.noKeeper(t)
			if after := tm.mode(t); !isCooked(after) || after.Oflag != before.Oflag {
				t.Errorf("the terminal's mode is %+v, was %+v", after, before)
			}
		})
	}
	t.Run("tostop", func(t *testing.T) {
		tm := newPTY(t)
		cmd := tm.shell(t, "set -m; stty tostop; offmap run -m 32 & read go; stty -tostop; fg; echo status $?")
		tm.await(t, "hello from vCPU 0")
		tm.typed(t, "on\n")
		tm.await(t, "status")
		(&ending{}).check(t, cmd, patience)
	})
	t.Run("killed in the background", func(t *testing.T) {
		tm := newPTY(t)
		before := tm.mode(t)
		cmd := tm.shell(t, "set -m; "+canaryGuest+" & sleep 1; kill -9 $!; wait; echo over")
		tm.await(t, "over")
		(&ending{}).check(t, cmd, patience)
		tm.noKeeper(t)
		if after := tm.mode(t); !reflect.DeepEqual(after, before) {
			t.Errorf("the terminal's mode is %+v, was %+v", after, before)
		}
	})
}
