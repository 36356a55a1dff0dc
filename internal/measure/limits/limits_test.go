package limits

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
)

func TestFields(t *testing.T) {
	id := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	seen := map[string]bool{}
	for _, l := range All() {
		if !id.MatchString(l.ID) || seen[l.ID] {
			t.Errorf("ID %q is malformed or taken", l.ID)
		}
		seen[l.ID] = true
		for _, text := range []string{l.Title, l.Source, l.How, l.Expected, l.Means} {
			if text == "" || strings.Contains(text, "\n") {
				t.Errorf("%s: text %q is empty or not one line", l.ID, text)
			}
		}
		if !strings.HasPrefix(l.Link, "https://") {
			t.Errorf("%s: link %q", l.ID, l.Link)
		}
		if l.check == nil {
			t.Errorf("%s: no check", l.ID)
		}
	}
	for _, p := range Compare() {
		for _, id := range p.IDs {
			if !seen[id] {
				t.Errorf("comparison %q: no limit %q", p.Point, id)
			}
		}
	}
}

// TestHere makes the checks on this host, whatever it has: each observes
// something or says what it lacks, and leaves nothing behind.
func TestHere(t *testing.T) {
	defer memtest.Leaks(t)()
	for _, l := range ours(memory.Secret) {
		r := l.Check(t.Context())
		if r.Holds == nil && !strings.HasPrefix(r.Observed, ErrSkipped.Error()) {
			t.Errorf("%s: %s", l.ID, r.Observed)
		}
		if r.Observed == "" || strings.Contains(r.Observed, "\n") {
			t.Errorf("%s: observed %q, want one line", l.ID, r.Observed)
		}
	}
}

// TestOrdinary makes the checks on ordinary memory, as if a kernel had taken
// it for secret: they must see that.
func TestOrdinary(t *testing.T) {
	// What a check of a memfd says. Not here are those that look alike for it
	// or depend on what else is in memory; other tests have them.
	memfd := map[string]bool{
		"no-opt-in": false, "cloexec": true, "size-once": false, "no-file-io": false, "no-giving-back": false,
		"direct-map": false, "gup-refused": false, "direct-io": false, "kvm-refused": false, "no-userfaultfd": false,
		"memlock": false, "memlock-touch": false, "memlock-user": false,
		"mlock": false, "mlockall": false, "unevictable": false, "no-populating": false,
		"sealing": true, "shared-only": false, "core-dump": false, "unmovable": false,
	}
	anon := map[string]bool{"small-pages": false, "shared-by-fd": false}
	for b, want := range map[memory.Backend]map[string]bool{memory.Memfd: memfd, memory.Anon: anon} {
		seen := 0
		for _, l := range ours(b) {
			holds, ok := want[l.ID]
			if !ok {
				continue
			}
			seen++
			r := l.Check(t.Context())
			switch {
			case r.Holds == nil && strings.HasPrefix(r.Observed, ErrSkipped.Error()):
				t.Logf("%s: %s", l.ID, r.Observed)
			case r.Holds == nil || *r.Holds != holds:
				t.Errorf("%s on %s memory: %q; want holds: %v", l.ID, b, r.Observed, holds)
			}
		}
		if seen != len(want) {
			t.Errorf("%d of %d limits are there", seen, len(want))
		}
	}
}

func TestRefused(t *testing.T) {
	fails := func(err error) func(*area) error { return func(*area) error { return err } }
	// only fails on the target, which is anonymous memory here.
	only := func(err error) func(*area) error {
		return func(a *area) error {
			if a.backend == memory.Anon {
				return err
			}
			return nil
		}
	}
	for _, c := range []struct {
		name     string
		attempts []attempt
		holds    bool
		text     string
	}{
		{"refused as expected", []attempt{{"x", unix.EFAULT, only(unix.EFAULT)}}, true, "x EFAULT; ordinary memory takes it"},
		{"any errno will do", []attempt{{"x", 0, only(unix.EPERM)}}, true, "x EPERM; ordinary memory takes it"},
		{"another errno", []attempt{{"x", unix.EFAULT, only(unix.EPERM)}}, false, "x EPERM; ordinary memory takes it"},
		{"not refused", []attempt{{"x", unix.EFAULT, fails(nil)}, {"y", 0, only(unix.EPERM)}}, false, "x works, y EPERM; ordinary memory takes all of that"},
		{"one control fails", []attempt{{"x", 0, fails(unix.EIO)}, {"y", 0, only(unix.EPERM)}}, true, "x not counted (on ordinary memory: EIO), y EPERM; ordinary memory takes it"},
	} {
		o, err := refused(memory.Anon, c.attempts)
		if err != nil || o.Holds != c.holds || o.Text != c.text {
			t.Errorf("%s: %+v, %v; want %v, %q", c.name, o, err, c.holds, c.text)
		}
	}
	if _, err := refused(memory.Anon, []attempt{{"x", 0, fails(unix.EIO)}}); !errors.Is(err, ErrSkipped) {
		t.Errorf("no control works: %v; want ErrSkipped", err)
	}
}

func TestChild(t *testing.T) {
	defer memtest.Leaks(t)()
	var v any
	if _, err := ask(t.Context(), nil, &v, "nonsense"); err == nil || !strings.Contains(err.Error(), "own use") {
		t.Errorf("unknown task: %v", err)
	}
	if _, err := ask(t.Context(), nil, &v, "memlock", "nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") || errors.Is(err, ErrSkipped) {
		t.Errorf("a task's error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c, err := startChild(ctx, nil, "hold", string(memory.Memfd))
	if err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := c.next(&pages); err != nil || pages != memlockPages {
		t.Errorf("a task holds %d pages, %v", pages, err)
	}
	cancel()
	if err := c.next(&pages); err == nil {
		t.Error("a task goes on when it is cancelled")
	}
	if s := c.end(); !s.Signaled() || s.Signal() != unix.SIGKILL {
		t.Errorf("a cancelled child ends with %s", describe(s))
	}
}
