package terminal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rawEnv makes the test binary a program that makes its terminal raw and waits.
const rawEnv = "OFFMAP_TEST_RAW"

func TestMain(m *testing.M) {
	if os.Getenv(rawEnv) == "" {
		os.Exit(m.Run())
	}
	t, err := Open(os.Stdin, func(what string) { panic(what) })
	if err := errors.Join(err, t.Start()); err != nil {
		panic(err)
	}
	fmt.Println(t.keeper.process.Pid)
	time.Sleep(time.Minute)
	os.Exit(1)
}

func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	open := func(name string) *os.File {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Skipf("SKIPPED: no pseudoterminal: %v", err)
		}
		f := os.NewFile(uintptr(fd), name)
		t.Cleanup(func() { f.Close() })
		return f
	}
	master = open("/dev/ptmx")
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, open(fmt.Sprintf("/dev/pts/%d", n))
}

func mode(t *testing.T, tty *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

func started(t *testing.T, tty *os.File) *Terminal {
	t.Helper()
	tt, err := Open(tty, func(what string) { t.Log(what) })
	if err := errors.Join(err, tt.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tt.Close)
	return tt
}

func TestRawAndBack(t *testing.T) {
	_, slave := pty(t)
	before := mode(t, slave)
	tt := started(t, slave)
	if m := mode(t, slave); m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || m.Oflag&unix.OPOST != 0 || !IsRaw() {
		t.Errorf("not raw: %+v, %v", m, IsRaw())
	}
	pid := tt.keeper.process.Pid
	tt.Close()
	tt.Close()
	if after := mode(t, slave); after != before || IsRaw() {
		t.Errorf("%+v, was %+v; %v", after, before, IsRaw())
	}
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("the keeper, process %d: %v", pid, err)
	}
}

func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	tt, err := Open(r, nil)
	if tt != nil || err != nil {
		t.Fatalf("a pipe: %v, %v", tt, err)
	}
	if err := tt.Start(); err != nil {
		t.Error(err)
	}
	tt.Interrupt()
	tt.Close()
}

// If no keeper can be started, the terminal is made raw without one.
func TestNoKeeper(t *testing.T) {
	defer func(good []byte) { keeperImage = good }(keeperImage)
	keeperImage = []byte("MZ")
	_, slave := pty(t)
	before := mode(t, slave)
	var said string
	tt, err := Open(slave, func(what string) { said = what })
	if err := errors.Join(err, tt.Start()); err != nil {
		t.Fatal(err)
	}
	if mode(t, slave) == before || said == "" {
		t.Errorf("not raw, or nothing said of it: %q", said)
	}
	tt.Close()
	if mode(t, slave) != before {
		t.Error("not set back")
	}
}

func TestRead(t *testing.T) {
	master, slave := pty(t)
	tt := started(t, slave)
	if _, err := master.WriteString("abc"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if _, err := io.ReadFull(tt, buf); err != nil || string(buf) != "abc" {
		t.Errorf("%q, %v", buf, err)
	}
	ended := make(chan error)
	read := func() {
		_, err := tt.Read(buf)
		ended <- err
	}
	go read()
	time.AfterFunc(20*time.Millisecond, tt.Interrupt)
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("interrupted: %v", err)
	}
	go read()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("again: %v", err)
	}
}

func TestHangup(t *testing.T) {
	master, slave := pty(t)
	tt := started(t, slave)
	time.AfterFunc(20*time.Millisecond, func() { master.Close() })
	if n, err := tt.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}

// The keeper restores the mode that the dead process has left, unless somebody has
// set another since. It has no more descriptors than it needs.
func TestKeeper(t *testing.T) {
	for _, changed := range []bool{false, true} {
		_, slave := pty(t)
		before := mode(t, slave)
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), rawEnv+"=1")
		cmd.Stdin, cmd.ExtraFiles = slave, []*os.File{os.Stderr} // what a careless parent leaves
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var keeper int
		if _, err := fmt.Sscan(line, &keeper); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 { // the keeper's /proc is root's
			await(t, "the keeper has other descriptors than 0 and 1", func() bool {
				fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", keeper))
				return err == nil && len(fds) == 2
			})
		}
		want := before
		if changed {
			want.Lflag &^= unix.ECHO
			if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, &want); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		await(t, "the keeper is there", func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", keeper))
			return err != nil || len(stat) == 0 // gone, or nobody has reaped it
		})
		if after := mode(t, slave); !reflect.DeepEqual(after, want) {
			t.Errorf("changed by another: %v: %+v, want %+v", changed, after, want)
		}
	}
}

func await(t *testing.T, what string, over func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !over(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 10 s still: %s", what)
		}
	}
}
