package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLabLacks runs secret guests in labs that lack something. Where there is
// nothing to fall back to, exit code 4 and the fix.
func TestLabLacks(t *testing.T) {
	offmap := needLab(t)
	for _, c := range []struct {
		name     string
		lab, run []string
		code     int
		want     string
	}{
		{"no module, so the window", []string{"--no-module"}, nil, 0, "attach window: at most 16M"},
		{"no module for the bridge", []string{"--no-module"}, []string{"--attach", "bridge"}, 4, "modprobe offmap"},
		{"memfd_secret off by default", []string{"--plain"}, nil, 4, "secretmem.enable=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(append([]string{"lab", "--kernel", "6.1"}, c.lab...), "--", "run", "--backend", "secret", "-m", "64")
			args = append(args, c.run...)
			cmd := command(t, patience, offmap, args...)
			cmd.Dir = t.TempDir()
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(stderr.String(), c.want) || code != 0 && stdout.Len() > 0 {
				t.Errorf("exit code %d, want %d and %q\n%s%s", code, c.code, c.want, stdout.String(), stderr.String())
			}
		})
	}
}

// asUser makes a command of an unprivileged user's, with a hard
// RLIMIT_MEMLOCK of limit bytes and the right to /dev/kvm and /dev/offmap.
func asUser(t *testing.T, limit uint64, args ...string) *exec.Cmd {
	t.Helper()
	return asUserWith(t, limit, []string{"/dev/kvm", "/dev/offmap"}, args...)
}

// asUserWith is asUser with the right to the devices named.
func asUserWith(t *testing.T, limit uint64, devices []string, args ...string) *exec.Cmd {
	t.Helper()
	for _, dev := range devices {
		info, err := os.Stat(dev)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dev, 0o666); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Chmod(dev, info.Mode().Perm()) })
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old) })
	cmd := command(t, patience, "./offmap", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	return cmd
}

// TestMemlock runs secret guests of a user whose RLIMIT_MEMLOCK is too low:
// alone, and because another guest of the user's has used it up. Either way
// that is an error in words, and no SIGBUS.
func TestMemlock(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.1")
	run := func(t *testing.T, limit uint64, args ...string) (int, string) {
		cmd := asUser(t, limit, args...)
		out, err := cmd.CombinedOutput()
		if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	touch := []string{"run", "--backend", "secret", "--payload", "touch", "-m", "64"}

	if code, out := run(t, 8<<20, touch...); code != 4 || !strings.Contains(out, "needs 65536 KiB") {
		t.Errorf("limit of 8 MiB: exit code %d, want 4 and the figure\n%s", code, out)
	}
	if code, out := run(t, 80<<20, touch...); code != 0 {
		t.Errorf("limit of 80 MiB: exit code %d\n%s", code, out)
	}

	const limit = 160 << 20
	other := asUser(t, limit, append([]string{"run"}, linux("secret", "echo up; sleep 200", "-m", "128")...)...)
	var console syncBuffer
	other.Stdout = &console
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	for range 6000 {
		if strings.Contains(console.String(), "up") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	code, out := run(t, limit, append(touch[:len(touch)-1:len(touch)-1], "128")...)
	if (code != 1 && code != 4) || !strings.Contains(out, "RLIMIT_MEMLOCK") {
		t.Errorf("beside another guest: exit code %d, want an error that names RLIMIT_MEMLOCK\n%s", code, out)
	}
}
