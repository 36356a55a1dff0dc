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

	index    int           // of the scenario that is being measured
	began    time.Time     // that scenario
	share    time.Duration // of the run's time for it; 0 without a Duration
	round    time.Duration // how long its last round took
	samples  int           // taken in it
	subjects int

	spent time.Duration // on the scenarios before it
}

func (c *clock) begin(i int) {
	c.index, c.began = i, time.Now()
	c.round, c.samples, c.subjects, c.share = 0, 0, 0, 0
	if c.plan.Duration > 0 {
		left := c.plan.Duration - time.Since(c.start)
		c.share = max(left, 0) / time.Duration(len(c.plan.Scenarios)-i)
	}
}

func (c *clock) end(int) { c.spent = time.Since(c.start) }

func (c *clock) sampled(subjects int) {
	c.samples++
	c.subjects = subjects
}

// more reports whether the scenario is to have another round. Every scenario
// has the one to warm up, and one that counts.
func (c *clock) more(round int) bool {
	if round <= 1 {
		return round == 0 || c.plan.Rounds >= 1
	}
	fits := time.Since(c.began)+c.round <= c.share
	switch {
	case round > c.plan.Rounds:
		return !c.plan.Env.Quick && fits && round <= maxRounds
	case c.plan.Env.Quick && c.share > 0:
		return fits
	}
	return true
}

func (c *clock) progress(name string, s Subject, round int) Progress {
	p := Progress{
		Scenario: name, Index: c.index, Scenarios: len(c.plan.Scenarios),
		Subject: s, Round: round, Rounds: c.plan.Rounds, Left: -1,
	}
	elapsed := time.Since(c.start)
	// The scenario as a whole, from the samples that it has had; those to come
	// are taken for the mean of those that were.
	whole, known := time.Duration(0), c.index
	here := time.Since(c.began)
	if c.samples > 0 {
		total := (c.plan.Rounds + 1) * c.subjects
		whole = here / time.Duration(c.samples) * time.Duration(max(total, c.samples))
		if c.share > 0 && (c.plan.Env.Quick == (whole > c.share)) {
			whole = max(c.share, here)
		}
		known++
	}
	if known == 0 {
		return p
	}
	mean := (c.spent + whole) / time.Duration(known)
	if c.samples == 0 {
		whole = mean
	}
	p.Left = max(whole-here, 0) + mean*time.Duration(len(c.plan.Scenarios)-c.index-1)
	p.Done = float64(elapsed) / float64(elapsed+p.Left)
	return p
}
