package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Plan is the configuration of a run: what to measure, and how often.
type Plan struct {
	Env       *Env
	Scenarios []Scenario
	// Working are the pairs of backend and attach to measure.
	Working []Subject
	// Rounds is the number of samples of each subject, after a round to warm
	// up.
	Rounds int
	// Duration, if not 0, is the least time for the run: scenarios get more
	// rounds until it has passed, each an equal share of the time that is
	// left. In a quick run it is the most time. A scenario that has begun then
	// still has one round after its warm-up, and one that hasn't is refused.
	Duration time.Duration
	// Progress, if not nil, is called before each sample.
	Progress func(Progress)
}

// maxRounds is the most rounds with Duration. More would not make the intervals
// narrower.
const maxRounds = 1000

// sampleTimeout ends a sample that hangs, so that others are measured.
const sampleTimeout = 10 * time.Minute

var errStuck = fmt.Errorf("still running after %v", sampleTimeout)

// Run takes the plan's samples. If ctx ends the run, the document has the values so
// far and is marked as partial. The caller sets Args and Unavailable.
func (p Plan) Run(ctx context.Context) *Document {
	start := time.Now()
	doc := &Document{
		Schema: Schema, Host: p.Env.Host, Started: start.Format(time.RFC3339), Quick: p.Env.Quick,
		Args: []string{}, Results: []Result{}, Unavailable: []Unavailable{}, // [] in JSON, not null
	}
	clock := clock{plan: p, start: start}
	for i, sc := range p.Scenarios {
		clock.begin(i)
		t := newSampling(p.Env, sc, p.Working)
		t.run(ctx, p, &clock)
		doc.Results = append(doc.Results, t.results(p)...)
		if ctx.Err() != nil {
			doc.Partial = true
			break
		}
	}
	compareAll(doc.Results)
	doc.Seconds = time.Since(start).Seconds()
	return doc
}

// Failed reports whether a result has the status Failed.
func (d *Document) Failed() bool {
	for _, r := range d.Results {
		if r.Status == Failed {
			return true
		}
	}
	return false
}

// sampling is the sampling of a scenario, whose subjects take turns.
type sampling struct {
	Scenario
	env    *Env
	series []*series
	// short is set if there was no time for all rounds.
	short bool
}

// series has the values of a subject by metric, in the order taken.
type series struct {
	Subject
	values [][]float64
	taken  int   // samples
	lost   int   // samples
	why    error // why the last one was lost
	err    error // why the subject isn't sampled any more
}

// lose counts a lost sample. A subject of which the first two are lost isn't
// sampled any more.
func (s *series) lose(err error) {
	s.lost++
	s.why = err
	if s.taken == 0 && s.lost > 1 {
		s.err = err
	}
}

func newSampling(e *Env, sc Scenario, working []Subject) *sampling {
	t := &sampling{Scenario: sc, env: e}
	for _, s := range sc.Subjects(e, working) {
		one := &series{Subject: s, values: make([][]float64, len(sc.Metrics))}
		if sc.Native && e.Host.Accel == "tcg" {
			one.err = fmt.Errorf("%w: accel tcg: TCG emulates neither TLBs nor caches", ErrCannot)
		}
		t.series = append(t.series, one)
	}
	return t
}

// run takes a sample of each subject to warm up, and then those that count.
func (t *sampling) run(ctx context.Context, p Plan, c *clock) {
	for round := 0; ; round++ { // round 0 is the warm-up
		if t.idle() || !c.more(round) {
			t.short = round <= p.Rounds
			return
		}
		began := time.Now()
		for i := range t.series {
			// The order rotates, because a sample can affect the next one.
			s := t.series[(i+round)%len(t.series)]
			if s.err != nil {
				continue
			}
			if p.Progress != nil {
				p.Progress(c.progress(t.Name, s.Subject, round, i, len(t.series)))
			}
			values, err := t.sample(ctx, s.Subject)
			if ctx.Err() != nil {
				return
			}
			switch {
			case errors.Is(err, ErrLost):
				s.lose(err)
			case err != nil:
				s.err = err
			case round > 0:
				s.taken++
				for m, v := range values {
					if !math.IsNaN(v) {
						s.values[m] = append(s.values[m], v)
					}
				}
			}
		}
		c.round = time.Since(began)
	}
}

// idle reports whether no subject is left to sample.
func (t *sampling) idle() bool {
	for _, s := range t.series {
		if s.err == nil {
			return false
		}
	}
	return true
}

// sample takes a sample and checks its values.
func (t *sampling) sample(ctx context.Context, s Subject) ([]float64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sampleTimeout, errStuck)
	defer cancel()
	values, err := t.Sample(ctx, t.env, s)
	if err != nil {
		return nil, err
	}
	if len(values) != len(t.Metrics) {
		return nil, fmt.Errorf("%d values for %d metrics: this is a bug in offmap", len(values), len(t.Metrics))
	}
	for i, v := range values {
		if math.IsInf(v, 0) {
			return nil, fmt.Errorf("%s is infinite: this is a bug in offmap", t.Metrics[i].Name)
		}
	}
	return values, nil
}

// results returns the results. A metric that a subject doesn't have is left out.
func (t *sampling) results(p Plan) (list []Result) {
	ordered := slices.Clone(t.series)
	slices.SortStableFunc(ordered, func(a, b *series) int { return a.rank() - b.rank() })
	for m, metric := range t.Metrics {
		for _, s := range ordered {
			r := Result{
				Name: t.Name + "/" + metric.Name, Subject: s.Subject,
				Unit: metric.Unit, More: metric.More, Curve: metric.Curve, X: metric.X, XUnit: metric.XUnit,
				Page: t.env.Host.page(s.Subject), Accel: t.env.Host.Accel,
				Status: Measured, Values: []float64{},
			}
			switch n := len(s.values[m]); {
			case errors.Is(s.err, ErrCannot):
				r.Status, r.Reason = Refused, s.err.Error()
			case s.err != nil:
				r.Status, r.Reason = Failed, s.err.Error()
			case s.taken == 0 && s.lost > 0:
				r.Status, r.Reason = Failed, s.why.Error()
			case s.taken == 0 && t.short:
				r.Status, r.Reason = Refused, "a quick run had no time left for it"
			case n == 0:
				continue
			default:
				r.Values = s.values[m]
				r.summarise()
				if n < p.Rounds {
					r.Status, r.Reason = Partial, fmt.Sprintf("%d of %d values: %s", n, p.Rounds, t.why(s, n))
				}
			}
			list = append(list, r)
		}
	}
	return list
}

// why says why a series has only n values.
func (t *sampling) why(s *series, n int) string {
	switch {
	case s.lost > 0:
		return fmt.Sprintf("%d samples were lost, the last one: %v", s.lost, s.why)
	case n < s.taken:
		return "some samples have none"
	case t.short:
		return "a quick run had no time for more"
	}
	return "stopped"
}
