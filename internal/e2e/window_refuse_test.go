package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"offmap/internal/measure/probe"
)

// output runs a command to its end.
func output(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out), errs.String()
}

// setting writes a file of the kernel's until the test's end, and skips the
// test on a kernel without it.
func setting(t *testing.T, path, value string) {
	t.Helper()
	old, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("skipped: this kernel has no %s", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	was := strings.TrimSpace(string(old))
	if _, chosen, ok := strings.Cut(was, "["); ok { // always [never] ...
		was, _, _ = strings.Cut(chosen, "]")
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, []byte(was), 0); err != nil {
			t.Error(err)
		}
	})
}

const enough = 256 << 20 // an RLIMIT_MEMLOCK for these guests

// hello are the arguments of a guest that ends at once; windowHello give it a
// window, of the default size, a quarter of its RAM.
var (
	hello       = []string{"run", "--json", "--backend", "secret", "--payload", "hello", "-m", "32"}
	windowHello = append(hello[:len(hello):len(hello)], "--attach", "window")
)

// TestWindowRights runs guests of a user's who may not have the bridge: auto
// takes the window if the user may have that, and refuses if not.
func TestWindowRights(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	const uffd = "/dev/userfaultfd"
	for _, c := range []struct {
		name    string
		devices []string
		attach  string
		code    int
		says    []string
	}{
		{"neither, auto", []string{"/dev/kvm"}, "auto", 4, []string{"direct: ", "bridge: ", "window: ", "chmod 660 " + uffd, "vm.unprivileged_userfaultfd=1"}},
		{"neither, window", []string{"/dev/kvm"}, "window", 4, []string{"window: ", "chmod 660 " + uffd}},
		{"the window, bridge", []string{"/dev/kvm", uffd}, "bridge", 4, []string{"bridge: ", "/dev/offmap"}},
		{"the window, auto", []string{"/dev/kvm", uffd}, "auto", 0, []string{"not direct: ", "not bridge: ", "attach window"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := output(t, asUserWith(t, enough, c.devices, append(hello, "--attach", c.attach)...))
			for _, text := range c.says {
				if code != c.code || !strings.Contains(stderr, text) {
					t.Errorf("exit code %d, want %d and %q\n%s", code, c.code, text, stderr)
				}
			}
			d := readRun(t, stdout)
			if c.code == 0 {
				checkWindow(t, d, 8<<20)
				if len(d.AttachRejected) != 2 || d.AttachRejected[0].Attach != "direct" || d.AttachRejected[1].Attach != "bridge" {
					t.Errorf("rejected: %+v", d.AttachRejected)
				}
			}
			if c.attach != "auto" {
				return
			}
			_, stdout, stderr = output(t, asUserWith(t, enough, c.devices, "doctor", "--json", "-m", "32"))
			doctor, err := probe.Read(strings.NewReader(stdout))
			if err != nil {
				t.Fatalf("%v in:\n%s%s", err, stdout, stderr)
			}
			if a := doctor.Attach; a["window"].Works != (c.code == 0) || a["bridge"].Works || a["direct"].Works {
				t.Errorf("doctor says %+v", a)
			}
		})
	}
	t.Run("by sysctl", func(t *testing.T) {
		setting(t, "/proc/sys/vm/unprivileged_userfaultfd", "1")
		if code, _, stderr := output(t, asUserWith(t, enough, []string{"/dev/kvm"}, hello...)); code != 0 {
			t.Errorf("exit code %d\n%s", code, stderr)
		}
	})
}

// TestWindowMemlock runs guests behind a window for a user whose
// RLIMIT_MEMLOCK is too low, or used up by another guest while the guest runs.
func TestWindowMemlock(t *testing.T) {
	needInside(t)
	onlyOn(t, "7")
	devices := []string{"/dev/kvm", "/dev/offmap", "/dev/userfaultfd"}
	if code, _, stderr := output(t, asUserWith(t, 8<<20, devices, windowHello...)); code != 4 || !strings.Contains(stderr, "needs 32768 KiB") {
		t.Errorf("limit of 8 MiB: exit code %d, want 4 and the figure\n%s", code, stderr)
	}

	const limit = 40 << 20
	args, _ := planter(t, 8192, true)
	other := start(t, asUserWith(t, limit, devices, append([]string{"run", "--backend", "secret", "--attach", "bridge"}, readable(t, args)...)...))
	other.await(t, plantedLine)
	args, canary := planter(t, 4096, false)
	g := start(t, asUserWith(t, limit, devices, append([]string{"run"}, windowed(readable(t, args), killWindow)...)...))
	if code := g.ended(); (code != 1 && code != 4) || !strings.Contains(g.out.String(), "RLIMIT_MEMLOCK") {
		t.Errorf("beside another guest: exit code %d, want an error that names RLIMIT_MEMLOCK\n%s", code, g.out.String())
	}
	if n := inRAM(t, canary); n != 0 {
		t.Errorf("the canary is in %d pages of RAM after the guest's end", n)
	}
	if pids := scrubbers(0); len(pids) != 0 {
		t.Errorf("scrubbers %v are left", pids)
	}
}

// readable lets every user read the kernel among a planter's arguments.
func readable(t *testing.T, args []string) []string {
	t.Helper()
	dir := filepath.Dir(args[1])
	for _, path := range []string{args[1], dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return args
}

// TestWindowScrubberRefused has the host forbid executable memfds: there is no
// scrubber, so there must be no guest.
func TestWindowScrubberRefused(t *testing.T) {
	needInside(t)
	setting(t, "/proc/sys/vm/memfd_noexec", "2")
	r := offmapRun(t, windowHello...)
	if r.code != 4 || !strings.Contains(r.stderr, "sysctl vm.memfd_noexec=1") {
		t.Errorf("exit code %d, want 4 and the sysctl\n%s", r.code, r.stderr)
	}
}

// TestWindowHugePages has the host back shared memory with huge pages: the
// bound holds, or the guest is refused.
func TestWindowHugePages(t *testing.T) {
	needInside(t)
	for _, mode := range []string{"always", "force"} {
		t.Run(mode, func(t *testing.T) {
			setting(t, "/sys/kernel/mm/transparent_hugepage/shmem_enabled", mode)
			r := offmapRun(t, windowHello...)
			t.Logf("exit code %d\n%s", r.code, r.stderr)
			switch {
			case r.code == 4 && strings.Contains(r.stderr, "shmem_enabled"):
			case r.code != 0:
				t.Errorf("exit code %d\n%s", r.code, r.stderr)
			default:
				checkWindow(t, readRun(t, r.stdout), 8<<20)
			}
		})
	}
}
