package audit

import (
	"testing"

	"offmap/memory/exposure"
)

// TestJudge holds that nothing is called blocked without a control that was
// read and a canary that was there.
func TestJudge(t *testing.T) {
	hits := func(n int) *exposure.Hits { return &exposure.Hits{Pages: n, Total: n} }
	control := Trial{Planted: 8, Kept: 8, Alive: *hits(8), OutsideAlive: hits(8)}
	good := Trial{Planted: 8, Kept: 8, OutsideAlive: hits(8)}
	for _, c := range []struct {
		name    string
		change  func(t, control *Trial)
		verdict Verdict
	}{
		{"hidden", func(t, c *Trial) {}, Blocked},
		{"no outside", func(t, c *Trial) { t.OutsideAlive, c.OutsideAlive = nil, nil }, Blocked},
		{"one page alive", func(t, c *Trial) { t.Alive = *hits(1) }, Exposed},
		{"one page after", func(t, c *Trial) { t.After = *hits(1) }, Exposed},
		{"blind scan", func(t, c *Trial) { c.Alive = *hits(0) }, Inconclusive},
		{"not planted", func(t, c *Trial) { t.Planted, t.Kept = 0, 0 }, Inconclusive},
		{"lost in the guest", func(t, c *Trial) { t.Kept = 7 }, Inconclusive},
		{"not in RAM", func(t, c *Trial) { t.OutsideAlive = hits(0) }, Inconclusive},
	} {
		target, ctl := good, control
		c.change(&target, &ctl)
		if v, why := judge(target, ctl); v != c.verdict {
			t.Errorf("%s: %s (%s), want %s", c.name, v, why, c.verdict)
		}
	}
	if v, _ := judge(control, control); v != Exposed {
		t.Errorf("the control is %s, want exposed", v)
	}
}
