package bench

import "time"

// Progress is how far a run is.
type Progress struct {
	Scenario         string
	Index, Scenarios int // Index from 0
	Subject          Subject
	Round, Rounds    int // Round 0 is to warm up; Rounds can be exceeded
	// Left is an estimate; negative while nothing is known to make one from.
	Left time.Duration
	// Done is the share of the run that is behind it, by the same estimate.
	Done float64
}

// clock shares out a run's time, and estimates what is left of it.
type clock struct {
	plan  Plan
	start time.Time

	index int           // of the scenario that is being measured
	began time.Time     // that scenario
	share time.Duration // of the run's time for it; 0 without a Duration
	round time.Duration // how long its last round took
}

func (c *clock) begin(i int) {
	c.index, c.began = i, time.Now()
	c.round, c.share = 0, 0
	if c.plan.Duration > 0 {
		left := c.plan.Duration - time.Since(c.start)
		c.share = max(left, 0) / time.Duration(len(c.plan.Scenarios)-i)
	}
}

// more reports whether the scenario is to have another round. One that has
// begun has a round to warm up and one that counts.
func (c *clock) more(round int) bool {
	fits := time.Since(c.began)+c.round <= c.share
	switch {
	case round == 0:
		return !c.plan.Env.Quick || c.plan.Duration == 0 || c.share > 0
	case round == 1:
		return true
	case round > c.plan.Rounds:
		return !c.plan.Env.Quick && fits && round <= maxRounds
	case c.plan.Env.Quick && c.plan.Duration > 0:
		return fits
	}
	return true
}

// progress is for the turn-th of some subjects in a round.
func (c *clock) progress(name string, s Subject, round, turn, subjects int) Progress {
	p := Progress{
		Scenario: name, Index: c.index, Scenarios: len(c.plan.Scenarios),
		Subject: s, Round: round, Rounds: c.plan.Rounds, Left: -1,
	}
	turns := round*subjects + turn // behind this one
	if c.index == 0 && turns == 0 {
		return p
	}
	before, here := c.began.Sub(c.start), time.Since(c.began)
	// The turns that are to come are taken for those that were, and the
	// scenarios likewise.
	var whole, mean time.Duration
	if turns == 0 {
		mean = before / time.Duration(c.index)
		whole = mean
	} else {
		whole = time.Duration(float64(here) * float64(max((c.plan.Rounds+1)*subjects, turns)) / float64(turns))
		if c.share > 0 && c.plan.Env.Quick == (whole > c.share) {
			whole = max(c.share, here)
		}
		mean = (before + whole) / time.Duration(c.index+1)
	}
	p.Left = max(whole-here, 0) + mean*time.Duration(len(c.plan.Scenarios)-c.index-1)
	p.Done = float64(before+here) / float64(before+here+p.Left)
	return p
}
