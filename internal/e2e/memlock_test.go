package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// atMmap is a kernel that holds secret memory against RLIMIT_MEMLOCK when it
// is mapped: bookworm's, before security updates. All that the lab's series
// stand for now charge it when it is touched.
const atMmap = "6.1=6.1.176-1"

// TestLabMemlock boots that kernel, for as long as Debian's archive has it.
func TestLabMemlock(t *testing.T) {
	offmap := needLab(t)
	if out, err := command(t, 2*patience, offmap, "lab", "fetch", atMmap).CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("the archive has no ")) {
			t.Skipf("SKIPPED: no kernel that checks RLIMIT_MEMLOCK at mmap:\n%s", out)
		}
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // for a user inside
		t.Fatal(err)
	}
	copyFile(t, offmap, filepath.Join(dir, "offmap"))
	cmd := command(t, 2*patience, offmap, "lab", "--kernel", atMmap, "--timeout", patience.String(), "--program", buildTest(t, "internal/e2e", dir), "--",
		"-test.v", "-test.run=^TestMemlockAtMmap$", "-inside")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestMemlockAtMmap")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestMemlockAtMmap is what the other tests of RLIMIT_MEMLOCK are on kernels
// that charge a page when it is touched: the limits, and guests of a user whose
// limit is too low. There each process has its own, and no touch fails.
func TestMemlockAtMmap(t *testing.T) {
	needInside(t)
	got := surveyOf(t, offmapRun(t, "limits", "--json", "-q", "--only", "memlock,memlock-touch,memlock-capability,memlock-user").stdout)
	if h := got["memlock-touch"].Holds; h != nil && *h {
		t.Skip("skipped: this kernel charges secret memory when it is touched")
	}
	for id, want := range map[string]bool{"memlock": true, "memlock-touch": false, "memlock-capability": true, "memlock-user": false} {
		if h := got[id].Holds; h == nil || *h != want {
			t.Errorf("%s: %q; want holds: %v", id, got[id].Observed, want)
		}
	}

	touch := []string{"run", "--backend", "secret", "--payload", "touch", "-m", "64"}
	if out, err := asUser(t, 80<<20, touch...).CombinedOutput(); err != nil {
		t.Errorf("limit of 80 MiB: %v\n%s", err, out)
	}
	cmd := asUser(t, 8<<20, touch...)
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.Contains(string(out), "needs 65536 KiB") {
		t.Errorf("limit of 8 MiB: exit code %d, want 4 and the figure\n%s", code, out)
	}
}
