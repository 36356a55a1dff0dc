package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"offmap/internal/measure/bench"
	"offmap/internal/render/table"
)

// section is a scenario of the benchmarks.
type section struct {
	Title  string
	About  string
	Groups []group // by accelerator: never two on an axis
	Table  *table.Table
	// Figures is how many the table has.
	Figures int
	// Missing says what wasn't measured, and why.
	Missing []string
}

// group is the charts of a scenario on hosts of one accelerator.
type group struct {
	Accel    string
	Emulated bool
	Charts   []chart
}

// Bounds of what is drawn, so that a page of hostile documents can be opened.
const (
	maxCharts = 400
	maxRows   = 48 // of a chart
	maxPoints = 64 // of a line
)

// sections are the scenarios in the order in which they were met, and how many
// charts of them are left out.
func (r *Report) sections() (list []section, dropped int) {
	abouts := map[string]string{}
	for _, s := range bench.Scenarios() {
		abouts[s.Name] = s.About
	}
	left := maxCharts
	for _, figures := range groupBy(r.figures, func(f benchResult) string { return f.scenario }) {
		s := section{Title: words(figures[0].scenario), About: abouts[figures[0].scenario]}
		drawable := slices.DeleteFunc(slices.Clone(figures), func(f benchResult) bool { return !f.drawable() })
		for _, same := range groupBy(drawable, func(f benchResult) string { return f.Accel }) {
			g := group{Accel: accelName(same[0].Accel), Emulated: emulated(same[0].Accel), Charts: scenarioCharts(same)}
			n := min(len(g.Charts), left)
			dropped += len(g.Charts) - n
			g.Charts = g.Charts[:n]
			left -= n
			s.Groups = append(s.Groups, g)
		}
		s.Table, s.Figures = figuresTable(s.Title, figures), len(figures)
		s.Missing = missing(figures)
		list = append(list, s)
	}
	return list, dropped
}

// groupBy splits a list by a key, in the order in which the keys appear.
func groupBy[T any, K comparable](list []T, key func(T) K) (groups [][]T) {
	at := map[K]int{}
	for _, v := range list {
		k := key(v)
		i, ok := at[k]
		if !ok {
			i = len(groups)
			at[k] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], v)
	}
	return groups
}

// scenarioCharts are the charts of one scenario and accelerator: for each metric
// and each curve one a host, all hosts' on the same axes.
func scenarioCharts(figures []benchResult) (list []chart) {
	type key struct {
		metric, unit, curve string
		more                bool
	}
	for _, of := range groupBy(figures, func(f benchResult) key { return key{f.metric, f.Unit, f.Curve, f.More} }) {
		if of[0].Curve == "" {
			list = append(list, metricCharts(of)...)
		} else {
			list = append(list, curveCharts(of)...)
		}
	}
	return list
}

// bounds are the least and the greatest of what figures need on an axis: their
// intervals, and their single values unless those lie far out.
func bounds(figures []benchResult) (low, high float64) {
	low, high = intervals(figures)
	far := high + 2*math.Abs(high)
	for _, f := range figures {
		for _, v := range f.Values {
			if v <= far {
				low, high = min(low, v), max(high, v)
			}
		}
	}
	return low, high
}

// intervals are the least and the greatest of the figures' intervals.
func intervals(figures []benchResult) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, f := range figures {
		low, high = min(low, f.Low), max(high, f.High)
	}
	return low, high
}

// metricCharts compare the subjects of one metric, a chart a host.
func metricCharts(figures []benchResult) (list []chart) {
	low, high := bounds(figures)
	s := scaleFor(figures[0].Unit, high)
	label := s.unit + moreOrLess(figures[0].More)
	a := span(low, high, s.round)
	if a.log {
		label += ", logarithmic"
	}
	for _, of := range groupBy(figures, func(f benchResult) *Source { return f.from }) {
		rc := rowsChart{axis: a, label: label}
		few := 0
		var alt []string
		for _, f := range of {
			rw := f.row()
			rc.rows = append(rc.rows, rw)
			alt = append(alt, fmt.Sprintf("%s %s %s;", f.subject, rw.value, rw.verdict))
			if f.Confidence < bench.Confidence {
				few++
			}
		}
		notes := []string{of[0].from.Name}
		if n := len(rc.rows) - maxRows; n > 0 {
			rc.rows = rc.rows[:maxRows]
			notes = append(notes, fmt.Sprintf("%d more are in the table", n))
		}
		if few > 0 {
			notes = append(notes, count(few, "bar")+" of too few values for 95 %: their range")
		}
		if n := beyond(of, a); n > 0 {
			notes = append(notes, count(n, "single value")+" beyond the axis, at its end")
		}
		list = append(list, chart{
			Title: of[0].title(), Note: strings.Join(notes, "; "),
			alt: strings.Join(alt, " "), height: rc.height(), draw: rc.draw,
		})
	}
	return list
}

// beyond counts the single values that the axis doesn't reach.
func beyond(figures []benchResult, a axis) (n int) {
	for _, f := range figures {
		for _, v := range f.Values {
			if v > a.high {
				n++
			}
		}
	}
	return n
}

// row is the figure as a row of a chart.
func (f benchResult) row() row {
	r := row{
		mark: markOf(f.Result), label: f.subject, value: quantity(f.Median, f.Unit),
		median: f.Median, low: f.Low, high: f.High, raw: f.Values,
	}
	if a := f.Against; a != nil {
		r.verdict, r.verdictInk = a.Verdict, inkMuted
		switch r.verdict {
		case bench.Worse:
			r.verdict, r.verdictInk = times(a.Ratio)+" worse", inkBad
		case bench.Better:
			r.verdict, r.verdictInk = times(a.Ratio)+" better", inkGood
		}
	}
	return r
}

func moreOrLess(more bool) string {
	if more {
		return ", more is better"
	}
	return ", less is better"
}

// curveCharts draw the curves of one metric, a chart a host.
func curveCharts(figures []benchResult) (list []chart) {
	low, high := intervals(figures)
	s := scaleFor(figures[0].Unit, high)
	y := span(low, high, s.round)
	x := curveAxis(figures)
	for _, of := range groupBy(figures, func(f benchResult) *Source { return f.from }) {
		lc := linesChart{x: x, y: y, labelX: words(of[0].Curve), labelY: s.unit + moreOrLess(of[0].More)}
		if y.log {
			lc.labelY += ", logarithmic"
		}
		var alt []string
		for _, points := range groupBy(of, func(f benchResult) string { return f.subject }) {
			slices.SortStableFunc(points, func(a, b benchResult) int { return cmp.Compare(a.X, b.X) })
			l := line{mark: markOf(points[0].Result), label: points[0].subject}
			for _, f := range points[:min(len(points), maxPoints)] {
				if x.log && f.X <= 0 {
					continue
				}
				l.points = append(l.points, linePoint{f.X, f.Median, f.Low, f.High})
			}
			last := points[len(points)-1]
			alt = append(alt, fmt.Sprintf("%s: %s at %s to %s at %s;", l.label, quantity(points[0].Median, points[0].Unit), xText(points[0]), quantity(last.Median, last.Unit), xText(last)))
			lc.lines = append(lc.lines, l)
		}
		lc.lines = lc.lines[:min(len(lc.lines), maxRows)]
		list = append(list, chart{
			Title: of[0].title() + " by " + words(of[0].Curve), Note: of[0].from.Name,
			alt: strings.Join(alt, " "), height: lc.height(), draw: lc.draw,
		})
	}
	return list
}

// curveAxis is the axis of X: logarithmic for what spans more than a factor of
// eight, such as sizes.
func curveAxis(figures []benchResult) axis {
	a := axis{low: math.Inf(1), high: math.Inf(-1)}
	for _, f := range figures {
		if math.Abs(f.X) < huge {
			a.low, a.high = min(a.low, f.X), max(a.high, f.X)
		}
	}
	if math.IsInf(a.low, 0) {
		a.low, a.high = 0, 1
	}
	unit := figures[0].XUnit
	a.format = func(v float64) string { return roundQuantity(v, unit) }
	a.log = a.low > 0 && a.high/a.low > 8
	a.binary = a.log && unit == "B"
	if a.low == a.high {
		a.low, a.high = a.low*0.9, a.high*1.1+1
	}
	return a
}

func xText(f benchResult) string { return roundQuantity(f.X, f.XUnit) }

// figuresTable is all figures of a scenario in words.
func figuresTable(scenario string, figures []benchResult) *table.Table {
	t := &table.Table{
		Name:    "All figures of " + scenario,
		Columns: []table.Column{{Wide: true}, {Wide: true}, {}, {Right: true}, {Right: true}, {Right: true}, {Wide: true}, {Wide: true}, {}},
		Head:    [][]table.Cell{table.Row("metric", "host", "subject", "median", "interval", "values", "against ordinary memory", "against the baseline", "status")},
	}
	var rows [][]table.Cell
	for _, f := range figures {
		rows = append(rows, f.tableRow())
	}
	t.Groups = []table.Group{{Rows: rows}}
	return t
}

// tableRow is the figure in words.
func (f benchResult) tableRow() []table.Cell {
	metric, status := f.title(), string(f.Status)
	if f.Curve != "" {
		metric += " " + xText(f)
	}
	if f.Reason != "" {
		status += ": " + f.Reason
	}
	if len(f.Values) == 0 {
		return table.Row(metric, f.from.Name, f.subject, "", "", "", "", "", status)
	}
	s := scaleFor(f.Unit, f.Median)
	values := fmt.Sprint(len(f.Values))
	if f.Confidence < bench.Confidence {
		values += ", range"
	}
	return table.Row(metric, f.from.Name, f.subject, s.format(f.Median), s.number(f.Low)+" – "+s.number(f.High), values,
		f.against(f.Against), f.against(f.AgainstBaseline), status)
}

func (f benchResult) against(c *bench.Comparison) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s %s, p %.2g: %s", times(c.Ratio), cut(c.Subject, 40), c.P, c.Verdict)
}

// missing says which subjects of a scenario have no values, a line for each
// reason.
func missing(figures []benchResult) (list []string) {
	type key struct {
		from          *Source
		subject, text string
	}
	for _, of := range groupBy(figures, func(f benchResult) key {
		if len(f.Values) > 0 {
			return key{}
		}
		return key{f.from, f.subject, f.Reason}
	}) {
		if f := of[0]; len(f.Values) == 0 {
			list = append(list, fmt.Sprintf("%s on %s: %s: %s", f.subject, f.from.Name, f.Status, cut(f.Reason, 300)))
		}
	}
	return list
}

// count says how many there are of something.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
