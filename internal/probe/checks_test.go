package probe

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"offmap/memory/attach"
)

// TestRun makes all checks on whatever host this is: each says something, one
// that failed says how to fix it, and nothing crashes for want of anything.
func TestRun(t *testing.T) {
	r := Run(64 << 20)
	seen := map[string]bool{}
	for _, c := range r.Checks {
		t.Logf("%-4s %-13s %s", c.Status, c.Name, c.Detail)
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
		default:
			t.Errorf("%s has status %q", c.Name, c.Status)
		}
	}
	for _, m := range attach.Methods() {
		w, ok := r.Attach[m]
		if ok == (m == attach.Auto) {
			t.Errorf("attach %s: reported is %v", m, ok)
		}
		if ok && !w.Works && w.Reason == "" {
			t.Errorf("attach %s doesn't work, and no reason", m)
		}
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
