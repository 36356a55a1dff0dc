package probe

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach"
	"offmap/memory/memtest"
)

// wanted is the guest that the tests ask about.
var wanted = Config{Backend: memory.Secret, Memory: 64 << 20}

// noFix are the ways to say that there is nothing to paste.
var noFix = []string{"no other fix", "nothing can be done", "see mem", "see removed", "ask for less", "boot this host with", "it takes Linux", "huge pages of 2 MiB are wanted", "seccomp", "isn't given the device"}

// checkReport holds a report to what is promised of every one.
func checkReport(t *testing.T, r Report) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range r.Checks {
		t.Logf("%-4s %-13s %s\n%s", c.Status, c.Name, c.Detail, c.Fix)
		if c.Name == "" || seen[c.Name] || c.Detail == "" {
			t.Errorf("%+v: no name, a name twice, or nothing said", c)
		}
		seen[c.Name] = true
		switch c.Status {
		case OK, Skip:
			if c.Fix != "" {
				t.Errorf("%s is %s and has a fix: %s", c.Name, c.Status, c.Fix)
			}
		case Warn, Fail:
			said := false
			for _, s := range noFix {
				said = said || strings.Contains(c.Detail, s)
			}
			if c.Fix == "" && !said {
				t.Errorf("%s is %s, has no fix, and doesn't say so: %s", c.Name, c.Status, c.Detail)
			}
		default:
			t.Errorf("%s has status %q", c.Name, c.Status)
		}
		if strings.Contains(c.Fix, "\n") {
			t.Errorf("%s has a fix of several lines: %q", c.Name, c.Fix)
		}
	}
	for _, m := range attach.Methods() {
		w, ok := r.Attach[m]
		if ok == (m == attach.Auto) {
			t.Errorf("attach %s: reported is %v", m, ok)
		}
		if ok && w.Works != (w.Reason == "") {
			t.Errorf("attach %s: works is %v, reason %q", m, w.Works, w.Reason)
		}
	}
	if len(r.Backends) != len(attach.Pairs()) {
		t.Fatalf("%d trials of %d pairs", len(r.Backends), len(attach.Pairs()))
	}
	for i, b := range r.Backends {
		if b.Pair != attach.Pairs()[i] {
			t.Errorf("trial %d is of %v, want %v", i, b.Pair, attach.Pairs()[i])
		}
		if b.Works && b.Reason+b.Errno+b.Needs != "" || !b.Works && (b.Reason == "" || b.Needs == "") {
			t.Errorf("%+v says too much or too little", b)
		}
	}
}

func run(t *testing.T, cfg Config) Report {
	t.Helper()
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRunCanceled ends Run where it is.
func TestRunCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if _, err := Run(ctx, wanted); !errors.Is(err, enough) {
		t.Errorf("%v, want the cause", err)
	}
}

// TestRun makes all checks on whatever host this is, for each backend.
func TestRun(t *testing.T) {
	r := run(t, wanted)
	leaks := memtest.Leaks(t) // after what a process opens once
	for _, b := range memory.Backends() {
		cfg := wanted
		cfg.Backend = b
		t.Run(string(b), func(t *testing.T) { checkReport(t, run(t, cfg)) })
	}
	leaks()
	sys, err := kvm.Open("")
	if err != nil {
		return // on a host without KVM it is enough that nothing crashed
	}
	sys.Close()
	for _, b := range r.Backends {
		if b.Backend == memory.Anon && !b.Works {
			t.Errorf("not even ordinary memory works: %+v", b)
		}
		if b.Pair == (attach.Pair{Backend: memory.Secret, Attach: attach.Direct}) && (b.Works || b.Errno != "EFAULT" && b.Errno != "ENOSYS") {
			t.Errorf("secret memory, direct: %+v", b)
		}
	}
}

// TestRunBare makes all checks where there is nothing: no file, no KVM.
func TestRunBare(t *testing.T) {
	cfg := wanted
	cfg.Root, cfg.KVM = fstest.MapFS{}, filepath.Join(t.TempDir(), "kvm")
	r := run(t, cfg)
	checkReport(t, r)
	for _, b := range r.Backends {
		if b.Works || b.Errno != "ENOENT" || b.Needs != "KVM" {
			t.Errorf("without KVM: %+v", b)
		}
	}
	if r.Can(memory.Secret, attach.Auto) || r.Can(memory.Anon, attach.Direct) {
		t.Error("a guest can run without KVM")
	}
}

// TestRunUnprivileged makes the checks of TestRun as a user with no rights.
func TestRunUnprivileged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: takes root to become another user; TestRun is enough")
	}
	dir, err := os.MkdirTemp("", "probe-test") // t.TempDir's parents are root's
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "probe.test")
	if err := errors.Join(os.WriteFile(path, program, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, locked := range []string{"64", "0"} { // KiB; the first was the kernel's default for long
		const nobody = 65534
		cmd := exec.Command("/bin/sh", "-c", `ulimit -l "$1" && exec "$2" -test.run '^TestRun(Bare)?$' -test.v`, "sh", locked, path)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestRun ") {
			t.Errorf("as nobody, with %s KiB of locked memory: %v\n%s", locked, err, out)
		}
	}
}

func TestCan(t *testing.T) {
	r := Report{Backends: []Trial{
		{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}, Works: true},
		{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.Direct}},
		{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}, Works: true},
	}}
	for _, c := range []struct {
		backend memory.Backend
		attach  attach.Method
		want    bool
	}{
		{memory.Secret, attach.Auto, true},
		{memory.Secret, attach.ViaWindow, true},
		{memory.Secret, attach.Direct, false},
		{memory.Secret, attach.ViaBridge, false},
		{memory.Anon, attach.Auto, true},
		{memory.Anon, attach.ViaWindow, false}, // which is no pair
		{memory.Memfd, attach.Auto, false},
	} {
		if got := r.Can(c.backend, c.attach); got != c.want {
			t.Errorf("%s, %s: %v, want %v", c.backend, c.attach, got, c.want)
		}
	}
	r.Checks = []Check{{Name: memoryCheck, Status: Fail}}
	if r.Can(memory.Anon, attach.Direct) {
		t.Error("the memory can't be had and the guest can")
	}
}

func TestFixKVM(t *testing.T) {
	if fix := FixKVM(fs.ErrPermission); !strings.Contains(fix, "kvm") || strings.Contains(fix, "modprobe") {
		t.Errorf("no right to it: %q", fix)
	}
	if fix := FixKVM(errors.Join(fs.ErrNotExist)); !strings.Contains(fix, "offmap lab") {
		t.Errorf("none there: %q", fix)
	}
}

func TestFixRights(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root, to give a file away")
	}
	for _, c := range []struct {
		mode os.FileMode
		gid  int
		want string
	}{
		{0o600, 0, "sudo chown"}, {0o660, 0, "sudo chown"}, {0o600, 1, "sudo chown"}, {0o640, 1, "sudo chown"},
		{0o660, 1, "usermod -aG daemon "}, {0o660, 4_000_000, "sudo chown"},
	} {
		device := filepath.Join(t.TempDir(), "kvm")
		if err := errors.Join(os.WriteFile(device, nil, 0), os.Chown(device, 0, c.gid), os.Chmod(device, c.mode)); err != nil {
			t.Fatal(err)
		}
		if fix := fixRights(device); !strings.Contains(fix, c.want) {
			t.Errorf("mode %o, group %d: %q, want %q", c.mode, c.gid, fix, c.want)
		}
	}
}

func TestJudgeRates(t *testing.T) {
	for _, c := range []struct {
		kernel, user float64
		says, not    string
	}{
		{2e8, 2e8, "guest kernels run natively, guest programs run natively", "interpreted"},
		{7e5, 2e9, "guest kernels are interpreted (0.7 million", "programs are"},
		{7e5, 7e5, "programs are interpreted", "natively"},
	} {
		if got := judgeRates(c.kernel, c.user); !strings.Contains(got, c.says) || strings.Contains(got, c.not) {
			t.Errorf("%g and %g: %q", c.kernel, c.user, got)
		}
	}
}
