package signals

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv makes the test binary a process that a test ends.
const roleEnv = "OFFMAP_TEST_SIGNALS"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "killed":
		if _, err := KillAfter(50 * time.Millisecond); err != nil {
			panic(err)
		}
		for { // no other goroutine gets to run
			_, _, _ = syscall.RawSyscall(syscall.SYS_PAUSE, 0, 0, 0)
		}
	case "cancelled":
		cancel, err := KillAfter(50 * time.Millisecond)
		if err := errors.Join(err, cancel()); err != nil {
			panic(err)
		}
		time.Sleep(200 * time.Millisecond)
		os.Exit(3)
	case "default", "set":
		signal.Notify(make(chan os.Signal, 1), unix.SIGUSR1)
		old, err := Default(unix.SIGUSR1)
		if err == nil && os.Getenv(roleEnv) == "set" {
			err = Set(unix.SIGUSR1, old)
		}
		if err := errors.Join(err, unix.Kill(os.Getpid(), unix.SIGUSR1)); err != nil {
			panic(err)
		}
		time.Sleep(200 * time.Millisecond)
		os.Exit(3)
	}
}

func TestEnds(t *testing.T) {
	for role, want := range map[string]syscall.Signal{
		"killed": unix.SIGKILL, "cancelled": 0, "default": unix.SIGUSR1, "set": 0,
	} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleEnv+"="+role, "GOMAXPROCS=1")
		out, err := cmd.CombinedOutput()
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case !ok:
			t.Errorf("%s: %v", role, err)
		case want != 0 && (!status.Signaled() || status.Signal() != want):
			t.Errorf("%s: %v, want %v\n%s", role, err, want, out)
		case want == 0 && status.ExitStatus() != 3:
			t.Errorf("%s: %v, want exit status 3\n%s", role, err, out)
		}
	}
}
