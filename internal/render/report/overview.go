package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"offmap/internal/measure/bench"
)

// overview is a chart of all metrics of a benchmark.
type overview struct {
	chart
	from *Source
}

// overviews makes a chart for each benchmark. It shows the costs of secret memory
// as multiples of the costs of ordinary memory, on one axis.
func (r *Report) overviews() (list []overview) {
	const most = 18
	all := compare(r.figures)
	for _, of := range groupBy(all, func(c comparison) *Source { return c.from }) {
		rows := slices.DeleteFunc(contrasts(of), func(c contrast) bool { return c.Against.Verdict == bench.TooFew })
		if len(rows) == 0 {
			continue
		}
		// Differences come first: where there are too many rows, the last are cut.
		slices.SortStableFunc(rows, func(a, b contrast) int { return cmp.Compare(a.rank(), b.rank()) })
		several := len(groupBy(rows, func(c contrast) string { return c.subject })) > 1
		one := 1.0
		rc := rowsChart{label: "logarithmic; right of 1× is dearer", line: &one}
		low, high := 1.0, 1.0
		var alt []string
		for _, c := range rows[:min(len(rows), most)] {
			rw := row{
				mark: markOf(c.Result), label: c.title(), value: times(c.cost),
				median: c.cost, low: cmp.Or(c.low, c.cost), high: cmp.Or(c.high, c.cost),
			}
			if c.points > 1 {
				rw.label = fmt.Sprintf("%s, at %s", rw.label, xText(c.benchResult))
			}
			if several {
				rw.label += " · " + c.subject
			}
			switch c.Against.Verdict {
			case bench.NoDifference:
				rw.value, rw.verdict, rw.verdictInk = "", "no difference seen", inkMuted
			case bench.Better:
				rw.verdictInk = inkGood
			case bench.Worse:
				rw.verdictInk = inkBad
			}
			low, high = min(low, rw.low), max(high, rw.high)
			rc.rows = append(rc.rows, rw)
			alt = append(alt, fmt.Sprintf("%s %s %s;", rw.label, rw.value, rw.verdict))
		}
		rc.axis = axis{low: low / 1.1, high: high * 1.1, log: true, format: func(v float64) string { return round(v) + "×" }}
		c := chart{
			Title: "Secret memory, in times of what ordinary memory costs", Note: of[0].from.Name,
			alt: strings.Join(alt, " "), height: rc.height(), draw: rc.draw,
		}
		if n := len(rows) - most; n > 0 {
			c.Note += fmt.Sprintf("; %d more below", n)
		}
		list = append(list, overview{c, of[0].from})
	}
	return list
}
