package e2e

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/measure/limits"
)

// TestLimits makes every check on the lab's kernel, as root and with all that
// a host can have. That the kernel doesn't complain is the lab's own check.
func TestLimits(t *testing.T) {
	needInside(t)
	notInTheMiddle(t)
	r := offmapRunFor(t, 2*patience, "limits", "--json")
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.stderr)
	}
	got := surveyOf(t, r.stdout)
	if all := limits.All(); len(got) != len(all) {
		t.Errorf("%d limits, want %d", len(got), len(all))
	}

	// What the source says and every kernel of the lab does, or doesn't.
	want := map[string]bool{
		"no-opt-in": true, "cloexec": false, "size-once": true, "no-file-io": true, "no-giving-back": true,
		"not-turned": true, "direct-map": true, "gup-refused": true, "kvm-refused": true,
		"accidental-transmission": false, "no-userfaultfd": true, "mlock": false, "mlockall": true,
		"unevictable": true, "no-populating": true, "small-pages": true, "own-pages": true,
		"pool": false, "shared-by-fd": true, "sealing": false, "shared-only": true, "fork": true,
		"core-dump": true, "no-hibernation": true,
	}
	// RLIMIT_MEMLOCK: one behaviour or the other, and no mixture.
	touch := got["memlock-touch"].Holds
	if touch == nil {
		t.Fatalf("memlock-touch: %s", got["memlock-touch"].Observed)
	}
	want["memlock"], want["memlock-capability"], want["memlock-user"] = !*touch, !*touch, *touch
	// These have had commit 97d34aa65c29 for as long as the lab has them.
	if release := kernelRelease(t); (strings.HasPrefix(release, "6.1.") || strings.HasPrefix(release, "7.")) && !*touch {
		t.Errorf("memlock-touch on %s: %s", release, got["memlock-touch"].Observed)
	}
	// Whether compaction moves the control is the kernel's choice.
	if h := got["unmovable"].Holds; h != nil && !*h {
		t.Errorf("unmovable: %s", got["unmovable"].Observed)
	}
	for id, want := range want {
		switch h := got[id].Holds; {
		case h == nil:
			t.Errorf("%s: %q; want holds: %v", id, got[id].Observed, want)
		case *h != want:
			t.Errorf("%s holds: %v, %q; want %v", id, *h, got[id].Observed, want)
		}
	}
}

// TestLimitsOfUser makes the checks as a user without rights: what can't be
// checked says so, and nothing fails.
func TestLimitsOfUser(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12")
	const memlock = 1 << 30 // some checks hold a lot at a time
	cmd := asUserWith(t, memlock, nil, "limits", "--json", "-q")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := surveyOf(t, string(out))
	for _, id := range []string{"direct-map", "unevictable", "unmovable", "memlock-capability", "kvm-refused"} {
		if h := got[id].Holds; h != nil {
			t.Errorf("%s holds: %v, %q, for a user who can't see that", id, *h, got[id].Observed)
		}
	}
	for _, id := range []string{"gup-refused", "size-once", "fork", "core-dump"} {
		if h := got[id].Holds; h == nil || !*h {
			t.Errorf("%s: %q; want it to hold", id, got[id].Observed)
		}
	}
}

// TestLabPlain boots kernels that are told nothing of secret memory: 6.5 made
// on the default.
func TestLabPlain(t *testing.T) {
	offmap := needLab(t)
	for _, series := range series() {
		cmd := command(t, patience, offmap, "lab", "--kernel", series, "--plain", "--no-module", "--", "limits", "--json", "--only", "off-by-default")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", series, err)
		}
		r := surveyOf(t, string(out))["off-by-default"]
		if want := series == "6.1"; r.Holds == nil || *r.Holds != want {
			t.Errorf("%s: %q, want holds: %v", series, r.Observed, want)
		}
	}
}

// surveyOf reads a document of offmap limits, in which each limit was checked
// or says why not.
func surveyOf(t *testing.T, doc string) map[string]limits.Result {
	t.Helper()
	d, err := limits.Read(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]limits.Result{}
	for _, r := range d.Limits {
		got[r.ID] = r
		state := "can't say"
		if r.Holds != nil {
			state = map[bool]string{true: "holds", false: "doesn't hold"}[*r.Holds]
		} else if !strings.Contains(r.Observed, limits.ErrSkipped.Error()) {
			t.Errorf("%s: %s", r.ID, r.Observed)
		}
		t.Logf("%s %s: %s", r.ID, state, r.Observed)
	}
	return got
}

func kernelRelease(t *testing.T) string {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	return unix.ByteSliceToString(u.Release[:])
}
