package scrubber

import (
	"errors"
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
		want   error
	}{
		{"no descriptor", func(*testing.T) int { return -1 }, unix.EBADF},
		{"a pipe", func(t *testing.T) int { _, r := pipe(t); return int(r.Fd()) }, errNotMemfd},
		{"huge pages", func(t *testing.T) int { return memfd(t, unix.MFD_HUGETLB) }, errNotMemfd},
		{"secret", func(t *testing.T) int {
			fd, _, err := unix.Syscall(unix.SYS_MEMFD_SECRET, unix.O_CLOEXEC, 0, 0)
			if err != 0 {
				t.Skipf("SKIPPED: memfd_secret: %v", err)
			}
			t.Cleanup(func() { unix.Close(int(fd)) })
			return int(fd)
		}, errNotMemfd},
		{"part of a page", func(t *testing.T) int { return int(newWindow(t, page+1).Fd()) }, errNotMemfd},
		{"read-only", func(t *testing.T) int {
			w := newWindow(t, page)
			ro, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ro.Close() })
			return int(ro.Fd())
		}, errReadOnly},
		{"appending", func(t *testing.T) int {
			fd := memfd(t, 0)
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_APPEND); err != nil {
				t.Fatal(err)
			}
			return fd
		}, errReadOnly},
		{"sealed", func(t *testing.T) int {
			fd := memfd(t, 0)
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); err != nil {
				t.Fatal(err)
			}
			return fd
		}, errReadOnly},
	} {
		t.Run(tc.name, func(t *testing.T) {
			refused(t, tc.window(t), tc.want)
		})
	}
}

// refused checks that Start fails with want and leaves nothing behind.
func refused(t *testing.T, window int, want error) {
	t.Helper()
	check := leaks(t)
	s, err := Start(window)
	if err == nil {
		s.Close()
		t.Fatal("started")
	}
	var exit *exec.ExitError // nil stands for a program that a signal ended
	if want != nil && !errors.Is(err, want) || want == nil && !errors.As(err, &exit) {
		t.Errorf("%v\nwant: %v", err, want)
	}
	check()
}

// TestStartOfBrokenProgram has programs that can't be executed, that end before
// they are ready, and that never are.
func TestStartOfBrokenProgram(t *testing.T) {
	good, patience := image, startTimeout
	t.Cleanup(func() { image, startTimeout = good, patience })
	// with returns a program of this machine code.
	with := func(code ...byte) []byte {
		const headers = 64 + 56
		return slices.Concat(good[:headers], code, good[headers+len(code):])
	}
	for _, tc := range []struct {
		name   string
		image  []byte
		want   error
		silent bool // forever
	}{
		{"not a program", []byte("MZ"), unix.ENOEXEC, false},
		{"exit(EPERM)", with(0xbf, 1, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 5), unix.EPERM, false},
		{"kill(getpid(), SIGKILL)", with(0xb8, 39, 0, 0, 0, 0x0f, 5, 0x89, 0xc7, 0xbe, 9, 0, 0, 0, 0xb8, 62, 0, 0, 0, 0x0f, 5), nil, false},
		{"an endless loop", with(0xeb, 0xfe), errNotReady, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if image = tc.image; tc.silent {
				startTimeout = 200 * time.Millisecond
			}
			refused(t, int(newWindow(t, page).Fd()), tc.want)
		})
	}
}

// TestProcess1 checks that a VMM which is process 1 of its PID namespace gets no
// scrubber, because none would outlive it.
func TestProcess1(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := inPIDNamespace(t, newWindow(t, page), exe)
	if !strings.Contains(out, errPID1.Error()) {
		t.Errorf("got %q", out)
	}
}

// TestMemfdNoexec sets the sysctl in a PID namespace of its own.
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

// inPIDNamespace runs a command as process 1 of a PID namespace and returns its
// output. In it, the test binary is a VMM that starts a scrubber and exits.
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
