package scrubber

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestStartRefuses(t *testing.T) {
	memfd := func(t *testing.T, flags int) int {
		fd, err := unix.MemfdCreate("window", flags|unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Skipf("SKIPPED: memfd_create with flags %#x: %v", flags, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	for _, tc := range []struct {
		name   string
		window func(t *testing.T) int
		want   string
	}{
		{"no descriptor", func(*testing.T) int { return -1 }, "descriptor -1: bad file descriptor"},
		{"a pipe", func(t *testing.T) int { _, r := pipe(t); return int(r.Fd()) }, "not a memfd"},
		{"huge pages", func(t *testing.T) int { return memfd(t, unix.MFD_HUGETLB) }, "not a memfd of whole ordinary pages"},
		{"secret", func(t *testing.T) int {
			fd, _, err := unix.Syscall(unix.SYS_MEMFD_SECRET, unix.O_CLOEXEC, 0, 0)
			if err != 0 {
				t.Skipf("SKIPPED: memfd_secret: %v", err)
			}
			t.Cleanup(func() { unix.Close(int(fd)) })
			return int(fd)
		}, "not a memfd"},
		{"part of a page", func(t *testing.T) int { return int(newWindow(t, page+1).Fd()) }, "whole ordinary pages"},
		{"read-only", func(t *testing.T) int {
			w := newWindow(t, page)
			ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ro.Close() })
			return int(ro.Fd())
		}, "can't be overwritten"},
		{"appending", func(t *testing.T) int {
			fd := memfd(t, 0)
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND); err != nil {
				t.Fatal(err)
			}
			return fd
		}, "can't be overwritten"},
		{"sealed", func(t *testing.T) int {
			fd := memfd(t, 0)
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); err != nil {
				t.Fatal(err)
			}
			return fd
		}, "can't be overwritten"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refused(t, tc.window(t), tc.want)
		})
	}
}

// refused sees Start fail and leave nothing behind.
func refused(t *testing.T, window int, want string) {
	t.Helper()
	check := leaks(t)
	g, err := Start(window)
	if err == nil {
		g.Close()
		t.Fatal("started")
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("%v\nwant: %s", err, want)
	}
	check()
}

// A program that doesn't start, and one that ends or is silent before it is
// ready.
func TestStartOfBrokenProgram(t *testing.T) {
	good, patience := image, startTimeout
	t.Cleanup(func() { image, startTimeout = good, patience })
	// with is a program that does this and nothing else.
	with := func(code ...byte) []byte {
		const headers = 64 + 56
		return slices.Concat(good[:headers], code, good[headers+len(code):])
	}
	for _, tc := range []struct {
		name   string
		image  []byte
		want   string
		silent bool // for ever
	}{
		{"not a program", []byte("MZ"), "exec format error", false},
		{"exit(EPERM)", with(0xbf, 1, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 5),
			"before it was ready: rt_sigprocmask, close_range, prctl or mmap failed in it: operation not permitted", false},
		{"kill(getpid(), SIGKILL)", with(0xb8, 39, 0, 0, 0, 0x0f, 5, 0x89, 0xc7, 0xbe, 9, 0, 0, 0, 0xb8, 62, 0, 0, 0, 0x0f, 5),
			"before it was ready: signal: killed", false},
		{"an endless loop", with(0xeb, 0xfe), "not ready within", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if image = tc.image; tc.silent {
				startTimeout = 200 * time.Millisecond
			}
			refused(t, int(newWindow(t, page).Fd()), tc.want)
		})
	}
}

// A VMM that is process 1 of its PID namespace has no scrubber that outlives
// it.
func TestProcess1(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := inPIDNamespace(t, newWindow(t, page), exe)
	if !strings.Contains(out, "process 1 of its PID namespace") {
		t.Errorf("got %q", out)
	}
}

// The sysctl is the PID namespace's own.
func TestMemfdNoexec(t *testing.T) {
	const sysctl = "/proc/sys/vm/memfd_noexec"
	if _, err := os.Stat(sysctl); err != nil {
		t.Skipf("SKIPPED: %v: kernel before 6.3", err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for setting, want := range map[string]string{"0": `^\d+\n$`, "1": `^\d+\n$`, "2": "with `sysctl vm.memfd_noexec=1` as root\n$"} {
		script := "echo $1 >" + sysctl + `; "$0"; exit 0`
		out := inPIDNamespace(t, newWindow(t, page), "sh", "-c", script, exe, setting)
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("vm.memfd_noexec=%s: %q, want %s", setting, out, want)
		}
	}
}

// inPIDNamespace runs a command as process 1 of a PID namespace and returns
// what it prints. The test binary is a VMM there that starts a scrubber and
// exits.
func inPIDNamespace(t *testing.T, window *os.File, command string, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, for a PID namespace")
	}
	cmd := exec.Command(command, args...)
	cmd.Env = vmmEnviron("exit")
	cmd.ExtraFiles = []*os.File{window}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	out, _ := cmd.CombinedOutput()
	return string(out)
}
