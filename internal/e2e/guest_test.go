package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"offmap/internal/measure/guestrun"
)

// report runs a guest and returns its JSON report.
func report(t *testing.T, wantCode int, args ...string) (*guestrun.Document, result) {
	t.Helper()
	r := offmapRun(t, append([]string{"run", "--json", "--timeout", (patience * 3 / 4).String()}, args...)...)
	if r.code != wantCode {
		t.Fatalf("offmap run %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), r.code, wantCode, r.stdout, r.stderr)
	}
	return readRun(t, r.stdout), r
}

func readRun(t *testing.T, text string) *guestrun.Document {
	t.Helper()
	d, err := guestrun.Read(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in the report:\n%s", err, text)
	}
	return d
}

// quiet keeps a guest's kernel from logging its start, and from testing its own ciphers,
// which takes a fifth of the start in the lab.
const quiet = "quiet cryptomgr.notests"

// linux are the arguments that boot the guest kernel.
func linux(backend, exec string, more ...string) []string {
	return append([]string{"-k", guestKernel, "--backend", backend, "--append", quiet, "--exec", exec}, more...)
}

// TestSecretLinux boots Linux with all its RAM in secret memory.
func TestSecretLinux(t *testing.T) {
	needInside(t)
	for _, cpus := range []string{"1", "2"} {
		d, r := report(t, 7, linux("secret", "uname -r; exit 7", "--cpus", cpus)...)
		if d.Backend != "secret" || d.Attach != "bridge" || d.Exit.Reason != "poweroff" || d.Exit.Code != 7 {
			t.Errorf("%+v", d)
		}
		if len(d.AttachRejected) != 1 || d.AttachRejected[0].Attach != "direct" || !strings.Contains(d.AttachRejected[0].Reason, "GUP") {
			t.Errorf("rejected: %+v", d.AttachRejected)
		}
		if d.Exposed != 0 || d.ExposedPeak != 0 {
			t.Errorf("%d bytes exposed, %d at the peak", d.Exposed, d.ExposedPeak)
		}
		if d.ToUserland == nil || d.Populated == 0 || d.Populated > d.Memory/2 {
			t.Errorf("to userland %v, %d of %d bytes populated: want at most half", d.ToUserland, d.Populated, d.Memory)
		}
		if !strings.Contains(r.stderr, "6.1.0-") {
			t.Errorf("the console lacks uname's answer:\n%s", r.stderr)
		}
	}
}

// TestStopped ends Linux guests from outside.
func TestStopped(t *testing.T) {
	needInside(t)
	oneIsEnough(t, middle)
	t.Run("SIGTERM", func(t *testing.T) {
		cmd := command(t, patience, "./offmap", append([]string{"run"}, linux("secret", "sleep 100")...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		cmd.Process.Signal(syscall.SIGTERM)
		if cmd.Wait(); cmd.ProcessState.ExitCode() != 128+15 {
			t.Errorf("%v, want exit code 143", cmd.ProcessState)
		}
	})
	t.Run("SIGKILL", func(t *testing.T) {
		cmd := command(t, patience, "./offmap", append([]string{"run"}, linux("secret", "sleep 100")...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		cmd.Process.Kill()
		cmd.Wait() // the kernel log and rmmod, at the lab's end, are the test
	})
}

// TestGuard runs a guest that writes every paravirtual MSR it knows. In hidden
// RAM each must be a #GP; the control, in ordinary RAM, shows that the guest
// can tell.
func TestGuard(t *testing.T) {
	needInside(t)
	d, r := report(t, 0, "--backend", "secret", "--payload", "kvmclock", "-m", "64")
	if d.Attach != "bridge" || !strings.Contains(r.stderr, "#GP") || strings.Contains(r.stderr, "accepted") {
		t.Errorf("%+v\n%s", d, r.stderr)
	}
	control := offmapRun(t, "run", "--backend", "anon", "--payload", "kvmclock", "-m", "64")
	// There are two guards. Each refuses the MSRs of kvm-clock. MSR 0x79, which has nothing
	// to do with them, only one refuses.
	for _, what := range []string{"MSR 0x4b564d01", "MSR 0x79"} {
		if !strings.Contains(control.stdout, what+": accepted") {
			t.Errorf("the control was refused too, %s: exit code %d\n%s", what, control.code, control.stdout)
		}
	}
	t.Logf("hidden:\n%s\ncontrol:\n%s", r.stderr, control.stdout)
}

// TestSizes verifies all RAM of guests at the sizes' edges.
func TestSizes(t *testing.T) {
	needInside(t)
	for _, mib := range []string{"32", "100"} {
		d, _ := report(t, 0, "--backend", "secret", "--payload", "touch", "-m", mib, "-c", "2")
		if d.Populated != d.Memory || d.Exposed != 0 {
			t.Errorf("%s MiB: %+v", mib, d)
		}
	}
	// Linux in little memory.
	report(t, 0, linux("secret", "true", "-m", "96")...)
}
