package audit

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/attach"
)

// found is a trial that found the canary in n pages of 8.
func found(n int) trial {
	eight := 8
	return trial{Finding: Finding{Pages: n, Bytes: 1 << 20}, planted: 8, kept: 8, outside: &eight}
}

// TestJudge holds that nothing is called blocked without a control that was
// read and a canary that was there.
func TestJudge(t *testing.T) {
	absent := fmt.Errorf("%w: no such thing", ErrUnavailable)
	none := 0
	for _, c := range []struct {
		name    string
		change  func(t, control *trial)
		verdict Verdict
	}{
		{"hidden", func(t, c *trial) {}, Blocked},
		{"refused", func(t, c *trial) { t.Errno = unix.EFAULT }, Blocked},
		{"no outside", func(t, c *trial) { t.outside, c.outside = nil, nil }, Blocked},
		{"one page", func(t, c *trial) { t.Pages = 1 }, Exposed},
		{"one page, then it failed", func(t, c *trial) { t.Pages, t.err = 1, errors.New("cut short") }, Exposed},
		{"one page, and no control", func(t, c *trial) { t.Pages, c.Pages = 1, 0 }, Exposed},
		{"blind attack", func(t, c *trial) { c.Pages = 0 }, Inconclusive},
		{"attack that failed", func(t, c *trial) { t.err = errors.New("broken") }, Inconclusive},
		{"control that failed", func(t, c *trial) { c.Pages, c.err = 0, errors.New("broken") }, Inconclusive},
		{"not planted", func(t, c *trial) { t.planted, t.kept = 0, 0 }, Inconclusive},
		{"lost in the guest", func(t, c *trial) { t.kept = 7 }, Inconclusive},
		{"not in RAM", func(t, c *trial) { t.outside = &none }, Inconclusive},
		{"wiped when freed", func(t, c *trial) { t.outside, t.gone = &none, true }, Blocked},
		{"left in RAM", func(t, c *trial) { t.gone = true }, Inconclusive},
		{"nothing tried", func(t, c *trial) { t.Bytes = 0 }, Inconclusive},
		{"nothing read, but refused", func(t, c *trial) { t.Bytes, t.Errno = 0, unix.EFAULT }, Blocked},
		{"on the control, and not on this one", func(t, c *trial) { t.err = absent }, Inconclusive},
		{"nothing to attack", func(t, c *trial) { t.err = ErrInapplicable }, Skipped},
		{"not on this host", func(t, c *trial) { t.err, c.err, c.Pages = absent, absent, 0 }, Skipped},
		{"not for the control", func(t, c *trial) { c.err, c.Pages = absent, 0 }, Skipped},
	} {
		target, control := found(0), found(8)
		c.change(&target, &control)
		if v, why := judge(target, control); v != c.verdict || why == "" {
			t.Errorf("%s: %s (%s), want %s", c.name, v, why, c.verdict)
		}
	}
	if v, _ := judge(found(8), found(8)); v != Exposed {
		t.Errorf("the control is %s, want exposed", v)
	}
}

// TestControl holds that a control is a guest in ordinary memory, and the
// first that the attack read.
func TestControl(t *testing.T) {
	a := auditRun{Config: Config{
		Columns: []Column{
			{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}},
			{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}},
			{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}},
		},
		Avenues: []Avenue{{Name: "all"}, {Name: "files only"}, {Name: "secret only"}},
	}}
	a.trials = [][]trial{
		{found(0), found(0), found(8)},
		{found(8), found(0), found(0)},
		{found(8), found(8), found(0)},
	}
	want := []struct {
		control memory.Backend
		secret  Verdict
	}{{memory.Anon, Blocked}, {memory.Memfd, Blocked}, {memory.Anon, Exposed}}
	got := a.judge()
	for i, w := range want {
		av := got[0].Avenues[i]
		if av.Control.Backend != w.control || av.Verdict != w.secret {
			t.Errorf("%s: %s with control %s, want %s with %s", av.Name, av.Verdict, av.Control.Backend, w.secret, w.control)
		}
	}
	if v := got[1].Avenues[2].Verdict; v != Inconclusive {
		t.Errorf("ordinary memory that no control shows to be readable is %s", v)
	}
	if v := got[1].Avenues[1].Verdict; v != Blocked {
		t.Errorf("anon, where memfd was read: %s", v)
	}
}
