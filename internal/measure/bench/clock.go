package bench

import "time"

// Progress is the progress of a run.
type Progress struct {
	Scenario         string
	Index, Scenarios int // Index from 0
	Subject          Subject
	Round, Rounds    int // Round 0 is the warm-up; it can exceed Rounds
	// Left is an estimate of the time left, negative while there is none.
	Left time.Duration
	// Done is the share of the run that is done, by the same estimate.
	Done float64
}

// clock divides a run's time among scenarios, and estimates the time left.
type clock struct {
	plan  Plan
	start time.Time

	index int           // of the current scenario
	began time.Time     // when that scenario began
	share time.Duration // its share of the run's time; 0 without a Duration
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

// more reports whether the scenario has another round. One that has begun has the
// warm-up and at least one more.
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

// progress returns the progress at the given turn of a round.
func (c *clock) progress(name string, s Subject, round, turn, subjects int) Progress {
	p := Progress{
		Scenario: name, Index: c.index, Scenarios: len(c.plan.Scenarios),
		Subject: s, Round: round, Rounds: c.plan.Rounds, Left: -1,
	}
	turns := round*subjects + turn // that are done
	if c.index == 0 && turns == 0 {
		return p
	}
	before, here := c.began.Sub(c.start), time.Since(c.began)
	// The estimate takes the turns and scenarios to come to be as long as those
	// that are done.
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
