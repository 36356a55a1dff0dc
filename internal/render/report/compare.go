package report

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"offmap/internal/measure/bench"
	"offmap/memory"
	"offmap/memory/attach"
)

// benchResult is a result of a benchmark, and where it is from.
type benchResult struct {
	*bench.Result
	from *Source
	// subject is what was measured, as results name it.
	subject string
	// scenario and metric are the two parts of the result's name; of a point
	// of a curve metric is the curve's, without the point.
	scenario, metric string
}

func figures(s *Source) []benchResult {
	if s.Bench == nil {
		return nil
	}
	list := make([]benchResult, len(s.Bench.Results))
	for i := range s.Bench.Results {
		r := &s.Bench.Results[i]
		f := benchResult{Result: r, from: s}
		f.subject = cut(r.Subject.String(), 40)
		f.scenario, f.metric, _ = strings.Cut(r.Name, "/")
		if r.Curve != "" {
			if i := strings.LastIndex(f.metric, "/"); i >= 0 {
				f.metric = f.metric[:i]
			} else {
				f.metric = ""
			}
		}
		list[i] = f
	}
	return list
}

// huge is more than offmap measures of anything. Such values aren't drawn.
const huge = 1e18

// drawable reports whether a figure has values that a chart can show.
func (f benchResult) drawable() bool {
	return len(f.Values) > 0 && math.Abs(f.Low) < huge && math.Abs(f.High) < huge &&
		!slices.ContainsFunc(f.Values, func(v float64) bool { return math.Abs(v) >= huge })
}

// secret reports whether the figure is of a guest's secret memory.
func (f benchResult) secret() bool { return f.Backend == memory.Secret && f.Peer == "" }

// title is the figure's metric in words: "populate (one thread)".
func (f benchResult) title() string {
	scenario := words(f.scenario)
	if f.metric == "" || f.metric == f.scenario {
		return scenario
	}
	return scenario + " (" + words(f.metric) + ")"
}

// words makes words of a name.
func words(name string) string {
	return cut(strings.NewReplacer("-", " ", "/", ", ").Replace(name), 80)
}

// comparison is a result of secret memory beside that of ordinary memory.
type comparison struct {
	benchResult
	ordinary *benchResult // nil if the document hasn't got it
	baseline *benchResult // plain C on the same backend, or nil
	// cost is how many times as much secret memory costs: more than 1 is
	// worse, of times and of bandwidths alike.
	cost float64
	// low and high are the least and the greatest ratio of values in the two
	// intervals. They are 0 where an interval isn't known.
	low, high float64
}

// compare finds, for each result of secret memory, the result that it was
// compared with.
func compare(all []benchResult) (list []comparison) {
	type key struct {
		from          *Source
		name, subject string
	}
	at := map[key]*benchResult{}
	for i, f := range all {
		at[key{f.from, f.Name, f.subject}] = &all[i]
	}
	for _, f := range all {
		if !f.secret() || !f.drawable() || f.Against == nil || !(f.Against.Ratio > 0 && f.Against.Ratio < huge) {
			continue
		}
		c := comparison{benchResult: f, cost: f.Against.Ratio}
		if f.More {
			c.cost = 1 / c.cost
		}
		if o := at[key{f.from, f.Name, f.Against.Subject}]; o != nil && o.drawable() && o.Accel == f.Accel {
			c.ordinary = o
			if f.Low > 0 && o.Low > 0 {
				c.low, c.high = f.Low/o.High, f.High/o.Low
				if f.More {
					c.low, c.high = 1/c.high, 1/c.low
				}
			}
		}
		if o := at[key{f.from, f.Name, baselineOf(f)}]; o != nil && o.drawable() {
			c.baseline = o
		}
		list = append(list, c)
	}
	return list
}

// baselineOf is the subject that is the baseline of a figure: plain C on the same
// memory.
func baselineOf(f benchResult) string {
	return bench.Subject{Pair: attach.Pair{Backend: f.Backend}, Peer: bench.C}.String()
}

// contrast is the comparison of a metric, or of a curve the one with the greatest
// difference.
type contrast struct {
	comparison       // the one with the greatest difference
	points, same int // of a curve: how many there are, and with no difference seen
}

// identical reports whether nothing varied, neither from one value to the next
// nor from secret memory to ordinary memory: there is nothing to see then.
func (c comparison) identical() bool {
	return c.ordinary != nil && c.Low == c.High && c.ordinary.Low == c.ordinary.High && c.Low == c.ordinary.Low
}

// contrasts puts the points of curves together, the costliest first. What is
// identical is left out.
func contrasts(all []comparison) (list []contrast) {
	type key struct {
		from                             *Source
		scenario, metric, curve, subject string
	}
	at := map[key]int{}
	for _, c := range all {
		if c.identical() {
			continue
		}
		one := contrast{comparison: c, points: 1}
		if c.Against.Verdict == bench.NoDifference {
			one.same = 1
		}
		k := key{c.from, c.scenario, c.metric, c.Curve, c.subject}
		i, seen := at[k]
		if c.Curve == "" || !seen {
			at[k] = len(list)
			list = append(list, one)
			continue
		}
		have := &list[i]
		have.points++
		have.same += one.same
		if c.differs(have.comparison) {
			have.comparison = c
		}
	}
	slices.SortStableFunc(list, func(a, b contrast) int { return cmp.Compare(b.cost, a.cost) })
	return list
}

// differs reports whether c shows more of a difference than d does. One that
// was seen is more than one that wasn't, whatever the medians are.
func (c comparison) differs(d comparison) bool {
	if a, b := c.rank(), d.rank(); a != b {
		return a < b
	}
	return math.Abs(math.Log(c.cost)) > math.Abs(math.Log(d.cost))
}

// rank orders comparisons by what they tell: 0 a difference, 1 that there is
// none to see, 2 nothing.
func (c comparison) rank() int {
	switch c.Against.Verdict {
	case bench.NoDifference:
		return 1
	case bench.TooFew:
		return 2
	}
	return 0
}
