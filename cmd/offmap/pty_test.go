package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"offmap/kvm"
)

func needKVM(t *testing.T) {
	t.Helper()
	sys, err := kvm.Open("")
	if err != nil {
		t.Skipf("SKIPPED: no usable /dev/kvm (%v); the lab has one", err)
	}
	sys.Close()
}

// pty is the master side of a pseudoterminal: it reads the screen and types.
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

// await waits until the terminal has shown all of want.
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

// settle waits until the terminal shows nothing more. Nobody may write any more.
func (tm *pty) settle() {
	for last := -1; last != len(tm.shown()); time.Sleep(50 * time.Millisecond) {
		last = len(tm.shown())
	}
}

func (tm *pty) mode(t *testing.T) unix.Termios {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(tm.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *mode
}

// start runs offmap with the pty as its controlling terminal.
func (tm *pty) start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := tm.command(t, args...)
	tm.run(t, cmd)
	return cmd
}

// command returns an offmap command with the pty as its controlling terminal.
func (tm *pty) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &exec.Cmd{
		Path: self, Args: append([]string{"offmap"}, args...), // TestMain goes by the name
		Env:   append(os.Environ(), "TERM=xterm-256color", "COLORTERM=truecolor", "LANG=C.UTF-8", "LC_ALL=", "NO_COLOR="),
		Stdin: tm.slave, Stdout: tm.slave, Stderr: tm.slave,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
	}
}

// run starts a command, and kills it when the test is over.
func (tm *pty) run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
}

// typed types keys.
func (tm *pty) typed(t *testing.T, keys string) {
	t.Helper()
	if _, err := tm.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}
