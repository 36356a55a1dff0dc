package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"offmap/audit"
	"offmap/guest/protocol"
	"offmap/memory"
	"offmap/memory/attach"
)

// runAudit runs the program's audit, which must end with that code.
func runAudit(t *testing.T, program string, code int, args ...string) *audit.Document {
	t.Helper()
	cmd := command(t, 2*patience, program, append([]string{"audit", "--json"}, args...)...)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() != code {
		t.Errorf("%v: exit code %d, want %d\n%s\n%s", args, cmd.ProcessState.ExitCode(), code, out, log.String())
	}
	d, err := audit.Read(bytes.NewReader(out))
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, log.String())
	}
	return d
}

// excused are avenues that the lab's kernels give nothing to make with, and why.
var excused = map[string]string{
	"dev-mem":     "CONFIG_STRICT_DEVMEM",
	"hibernation": "--freeze-host",
	"swap":        "no swap",
}

// notIn is ordinary memory that there is nothing of for an avenue: no file, and
// no anonymous pages to merge.
var notIn = map[string][]memory.Backend{"proc-fd": {memory.Anon}, "fd-theft": {memory.Anon}, "ksm": {memory.Memfd}}

// TestAudit attacks guests by every avenue, on one kernel in every backend that
// it offers: secret memory behind the bridge is read by its owner alone,
// ordinary memory by everybody.
func TestAudit(t *testing.T) {
	needInside(t)
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		t.Fatal(err)
	}
	release := kernelRelease(t)
	all, freeze := strings.HasPrefix(release, "6.12."), !strings.HasPrefix(release, "7.")       // see checkFreeze of cmd/offmap
	can := map[string]bool{"hibernation": freeze, "swap": bytes.Count(swaps, []byte("\n")) > 1} // after the heading
	d := runAudit(t, "./offmap", 0, fmt.Sprintf("--all=%v", all), fmt.Sprintf("--freeze-host=%v", freeze))
	if d.Backend != "secret" || d.Attach != "bridge" {
		t.Fatalf("attacked %s+%s, want secret+bridge", d.Backend, d.Attach)
	}
	for _, c := range d.Matrix {
		if c.Planted == 0 {
			t.Errorf("%s: no page planted", c.Backend)
		}
	}
	anon, memfd := d.Column(attach.Pair{Backend: memory.Anon, Attach: attach.Direct}), d.Column(attach.Pair{Backend: memory.Memfd, Attach: attach.Direct})
	for i, a := range d.Avenues {
		t.Logf("%-18s %-12s %s", a.Name, a.Verdict, a.Evidence)
		switch {
		case excused[a.Name] != "" && a.Verdict == audit.Skipped && !can[a.Name]:
			if !strings.Contains(a.Evidence, excused[a.Name]) {
				t.Errorf("%s is skipped, and not for want of %s: %s", a.Name, excused[a.Name], a.Evidence)
			}
			continue
		case a.Owner && a.Verdict != audit.Exposed:
			t.Errorf("%s: %s, although the owner can: %s", a.Name, a.Verdict, a.Evidence)
		case !a.Owner && a.Verdict != audit.Blocked:
			t.Errorf("%s: %s: %s", a.Name, a.Verdict, a.Evidence)
		}
		if a.Control.Verdict != audit.Exposed {
			t.Errorf("%s: the control is %s", a.Name, a.Control.Verdict)
		}
		for _, c := range []*audit.Audited{anon, memfd} {
			if control := c.Avenues[i]; control.Verdict != audit.Exposed && !slices.Contains(notIn[a.Name], c.Backend) {
				t.Errorf("%s: %s is %s: %s", a.Name, c.Backend, control.Verdict, control.Evidence)
			}
		}
	}
	for _, name := range []string{"direct-map", "residue-exit", "residue-kill", "residue-reset"} {
		// The kernel may have used a few freed pages for something else.
		if p := anon.Avenue(name).Pages; p < anon.Planted*9/10 {
			t.Errorf("%s found %d of %d pages of anon", name, p, anon.Planted)
		}
	}
	if all {
		checkOthers(t, d.Column(attach.Pair{Backend: memory.Secret, Attach: attach.ViaWindow}), d.Column(attach.Pair{Backend: memory.Reserved, Attach: attach.Direct}))
		checkRemoved(t, d.Column(attach.Pair{Backend: memory.Removed, Attach: attach.Direct}))
	}
	if before, during := d.DirectMap.Before["4k"], d.DirectMap.During["4k"]; during < before || before == 0 {
		t.Errorf("4 KiB pages of the direct map: %d bytes before, %d during", before, during)
	}
}

// checkOthers holds what a window and reserved memory promise.
func checkOthers(t *testing.T, window, reserved *audit.Audited) {
	t.Helper()
	if window == nil || reserved == nil {
		t.Fatalf("not attacked: a window (%v), reserved memory (%v)", window, reserved)
	}
	const quarter = 32 << 20 >> 12 / 4
	if a := window.Avenue("direct-map"); a.Verdict != audit.Exposed || a.Pages > quarter {
		t.Errorf("window of %d pages: %+v", quarter, a)
	}
	for _, name := range []string{"residue-exit", "residue-kill", "residue-reset"} {
		if a := window.Avenue(name); a.Verdict != audit.Blocked {
			t.Errorf("window: %+v", a)
		}
	}
	for name, want := range map[string]audit.Verdict{"direct-map": audit.Blocked, "kernel-read": audit.Blocked, "dev-mem": audit.Exposed} {
		if a := reserved.Avenue(name); a.Verdict != want {
			t.Errorf("reserved, want %s: %+v", want, a)
		}
	}
}

// checkRemoved holds that nobody but the owner reads memory that has left the kernel.
func checkRemoved(t *testing.T, removed *audit.Audited) {
	t.Helper()
	if removed == nil {
		t.Fatal("not attacked: removed memory")
	}
	blocked := 0
	for _, a := range removed.Avenues {
		switch {
		case a.Owner:
		case a.Verdict == audit.Exposed:
			t.Errorf("removed: %s: %+v", a.Name, a)
		case a.Verdict == audit.Blocked:
			blocked++
		}
	}
	if blocked < 14 {
		t.Errorf("removed: only %d attacks are blocked: %+v", blocked, removed.Avenues)
	}
}

// TestAuditLinux is the same for a guest that boots Linux: what the README
// shows.
func TestAuditLinux(t *testing.T) {
	needInside(t)
	oneIsEnough(t, oldest)
	d := runAudit(t, "./offmap", 0, "-k", guestKernel, "--only", "direct-map,residue-exit")
	for _, c := range d.Matrix {
		t.Logf("%+v", c)
		for _, a := range c.Avenues {
			secret := c.Backend == "secret"
			if secret && (a.Verdict != audit.Blocked || a.Pages != 0) || !secret && a.Pages < c.Planted*9/10 {
				t.Errorf("%s: %+v, %d planted", c.Backend, a, c.Planted)
			}
		}
	}
}

// TestAuditRunning audits a guest that somebody runs, and leaves it running.
func TestAuditRunning(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	g := startRun(t, "--payload", "canary", "-m", "32", "--backend", "secret")
	g.await(t, protocol.CanaryPlanted)
	args := []string{"--pid", fmt.Sprint(g.Process.Pid), "--canary", plantedCanary(t, g.out.String()).String()}
	d := runAudit(t, "./offmap", 0, append(args, "--only", "direct-map,residue-exit,process-vm-readv,fd-theft,vmsplice,fork-child,ptrace-syscall,core-dump")...)
	for _, a := range d.Avenues {
		want := audit.Blocked
		switch {
		case a.Name == "core-dump" || a.Name == "residue-exit":
			want = audit.Skipped // it would end the guest
		case a.Owner:
			want = audit.Exposed
		}
		if a.Verdict != want {
			t.Errorf("%s: %s, want %s: %s", a.Name, a.Verdict, want, a.Evidence)
		}
	}
	// Without an attack that shows the canary, nothing is shown.
	for _, a := range runAudit(t, "./offmap", 3, append(args, "--only", "process-vm-readv")...).Avenues {
		if a.Verdict != audit.Inconclusive {
			t.Errorf("%s: %s", a.Name, a.Verdict)
		}
	}
	fmt.Fprintln(g.input)
	if code := g.ended(); code != 0 || !strings.Contains(g.out.String(), "held in 8") {
		t.Errorf("the guest ended with %d:\n%s", code, g.out.String())
	}
}

// Mutants are the program with a line changed, which the audit has to notice.
var mutants = []struct{ name, file, from, to string }{
	// Ordinary memory that is passed off as secret.
	{"offmap-memfd", "memory/backend.go", "open: openSecret,", "open: openMemfd,"},
	// A buffer in ordinary memory between files and guest RAM, which nobody wipes.
	{"offmap-bouncing", "memory/vector_unsafe.go", `	return r.vector(unix.SYS_PWRITEV2, "pwritev", fd, buf, off, flags)`, `	b := make([]byte, buf.Size())
	if err := buf.CopyOut(r, b); err != nil || off < 0 {
		return r.vector(unix.SYS_PWRITEV2, "pwritev", fd, buf, off, flags)
	}
	return unix.Pwrite(fd, b, off)`},
	// Bounce buffers that aren't wiped.
	{"offmap-unwiped", "vmm/bounce/bounce.go", "	clear(b)\n	p.mu", "	p.mu"},
	// Searches that find nothing.
	{"offmap-blind", "audit/canary/set.go", "return s.filter[", "return 0 & s.filter["},
}

// buildMutants builds them in dir.
func buildMutants(t *testing.T, dir string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		path := filepath.Join(root, m.file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), m.from) != 1 {
			t.Fatalf("%s: %q isn't there once", m.file, m.from)
		}
		mutated := filepath.Join(t.TempDir(), filepath.Base(m.file))
		if err := os.WriteFile(mutated, []byte(strings.Replace(string(text), m.from, m.to, 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
		if err != nil {
			t.Fatal(err)
		}
		list := mutated + ".json"
		if err := os.WriteFile(list, overlay, 0o644); err != nil {
			t.Fatal(err)
		}
		build := exec.Command("go", "build", "-overlay", list, "-o", filepath.Join(dir, m.name), "offmap/cmd/offmap")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", m.name, err, out)
		}
	}
}

// TestAuditMutants runs audits that are blind, or of memory that isn't what it
// is said to be.
func TestAuditMutants(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.1")
	all := func(verdict audit.Verdict, as []audit.Outcome) {
		t.Helper()
		for _, a := range as {
			if a.Verdict != verdict && a.Verdict != audit.Skipped {
				t.Errorf("%s: %s, want %s: %s", a.Name, a.Verdict, verdict, a.Evidence)
			}
		}
	}
	chosen := []string{"--only", "direct-map,residue-exit,process-vm-readv,proc-mem,vmsplice,fd-theft,ptrace-syscall"}
	d := runAudit(t, "./offmap-memfd", 3, chosen...)
	if d.Backend != "secret" {
		t.Errorf("attacked %s", d.Backend)
	}
	all(audit.Exposed, d.Avenues)
	for _, c := range runAudit(t, "./offmap-blind", 3, chosen...).Matrix {
		all(audit.Inconclusive, c.Avenues)
	}
}
