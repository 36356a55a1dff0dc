package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Plan is a run: what to measure, and how often.
type Plan struct {
	Env       *Env
	Scenarios []Scenario
	// Working are the pairs of backend and attach to measure.
	Working []Subject
	// Rounds is how many values are taken of each subject, after a round that
	// isn't counted.
	Rounds int
	// Duration is how long the run goes on at least, with more rounds than
	// that: what is left of it is shared out evenly among the scenarios that
	// are left. In a quick run it is how long it goes on at most, but for the
	// one round that a scenario has when it has begun; scenarios that don't
	// come to their turn are refused.
	Duration time.Duration
	// Progress, if not nil, is told before each sample how far the run is.
	Progress func(Progress)
}

// maxRounds bounds what Duration adds: an interval gets no narrower than the
// machine is steady.
const maxRounds = 1000

// sampleTimeout is for a sample that never ends, which would take all others
// with it.
const sampleTimeout = 10 * time.Minute

var errStuck = fmt.Errorf("it was still running after %v", sampleTimeout)

// Run takes the plan's samples. The document has what could be measured, also
// where ctx has ended the run: it is then marked as partial. What is known of
// the command and of pairs that don't work is the caller's to add.
func (p Plan) Run(ctx context.Context) *Document {
	start := time.Now()
	doc := &Document{
		Schema: Schema, Host: p.Env.Host, Started: start.Format(time.RFC3339), Quick: p.Env.Quick,
		Args: []string{}, Results: []Result{}, Unavailable: []Unavailable{}, // [] in JSON, not null
	}
	clock := clock{plan: p, start: start}
	for i, sc := range p.Scenarios {
		clock.begin(i)
		t := newTurns(p.Env, sc, p.Working)
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

// Failed reports whether there is a result that something went wrong with.
func (d *Document) Failed() bool {
	for _, r := range d.Results {
		if r.Status == Failed {
			return true
		}
	}
	return false
}

// turns are the subjects of a scenario, which take turns.
type turns struct {
	Scenario
	env    *Env
	series []*series
	// short says that there was no time for all rounds.
	short bool
}

// series is what was measured of a subject: values by metric, in the order
// taken.
type series struct {
	Subject
	values [][]float64
	taken  int // samples
	lost   int // samples, and why the last one was
	why    error
	err    error // it isn't asked again
}

// lose counts a sample that was lost. A subject that loses them all isn't asked
// for ever.
func (s *series) lose(err error) {
	s.lost++
	s.why = err
	if s.taken == 0 && s.lost > 1 {
		s.err = err
	}
}

func newTurns(e *Env, sc Scenario, working []Subject) *turns {
	t := &turns{Scenario: sc, env: e}
	for _, s := range sc.Subjects(e, working) {
		one := &series{Subject: s, values: make([][]float64, len(sc.Metrics))}
		if sc.Native && e.Host.Accel == "tcg" {
			one.err = fmt.Errorf("%w: accel tcg: TCG says nothing of TLBs and caches", ErrCannot)
		}
		t.series = append(t.series, one)
	}
	return t
}

// run goes round the subjects: once to warm up, then for values.
func (t *turns) run(ctx context.Context, p Plan, c *clock) {
	for round := 0; ; round++ { // 0 is the one to warm up
		if t.idle() || !c.more(round) {
			t.short = round <= p.Rounds
			return
		}
		began := time.Now()
		for i := range t.series {
			// Who comes first changes, as what precedes a sample can matter.
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

// idle reports whether there is nobody left to ask.
func (t *turns) idle() bool {
	for _, s := range t.series {
		if s.err == nil {
			return false
		}
	}
	return true
}

// sample takes a sample and checks it.
func (t *turns) sample(ctx context.Context, s Subject) ([]float64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sampleTimeout, errStuck)
	defer cancel()
	values, err := t.Sample(ctx, t.env, s)
	if err != nil {
		return nil, err
	}
	if len(values) != len(t.Metrics) {
		return nil, fmt.Errorf("%d values for %d metrics: this is a mistake in offmap", len(values), len(t.Metrics))
	}
	for i, v := range values {
		if math.IsInf(v, 0) {
			return nil, fmt.Errorf("%s is infinite: this is a mistake in offmap", t.Metrics[i].Name)
		}
	}
	return values, nil
}

// results puts what was measured into words. A metric that a subject hasn't
// got is left out, and so is one that there was no time for.
func (t *turns) results(p Plan) (list []Result) {
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

// why says why there are n values of a series and no more.
func (t *turns) why(s *series, n int) string {
	switch {
	case s.lost > 0:
		return fmt.Sprintf("%d samples were lost, the last one: %v", s.lost, s.why)
	case n < s.taken:
		return "some samples gave none"
	case t.short:
		return "a quick run had no time for more"
	}
	return "stopped"
}
