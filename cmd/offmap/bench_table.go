package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchunit"

	"offmap/internal/measure/bench"
	"offmap/internal/render/table"
)

// printBenchTable prints results as text: for each scenario a table with a row for
// each metric and a column for each subject.
func printBenchTable(w io.Writer, doc *bench.Document, width int) error {
	if width == 0 {
		width = 100
	}
	var b strings.Builder
	h := doc.Host
	host := fmt.Sprintf("Linux %s, %d CPUs, KVM %s (%s)", h.Kernel, h.CPUs, h.KVM, h.Accel)
	for _, more := range []struct{ name, value string }{{"", h.Model}, {"governor ", h.Governor}, {"transparent huge pages ", h.THP}} {
		if more.value != "" {
			host += ", " + more.name + more.value
		}
	}
	b.WriteString(table.Beside(host, 0, width) + "\n")
	if doc.Partial {
		b.WriteString(table.Beside("PARTIAL: the run was stopped before its end", 0, width) + "\n")
	}
	for results := range groupBy(doc.Results, scenarioOf) {
		printScenario(&b, results, width, h.Accel)
	}
	b.WriteString("\n" + benchLegend(doc, width))
	_, err := io.WriteString(w, b.String())
	return err
}

// groupBy yields runs of elements that have the same key.
func groupBy[T any, K comparable](list []T, key func(T) K) func(func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(list) > 0 {
			n := 1
			for n < len(list) && key(list[n]) == key(list[0]) {
				n++
			}
			if !yield(list[:n]) {
				return
			}
			list = list[n:]
		}
	}
}

func scenarioOf(r bench.Result) string {
	name, _, _ := strings.Cut(r.Name, "/")
	return name
}

// aboutScenario describes a scenario, or is empty if this program doesn't have it.
func aboutScenario(name string) string {
	for _, s := range benchScenarios() {
		if s.Name == name {
			return s.About
		}
	}
	return ""
}

func printScenario(b *strings.Builder, results []bench.Result, width int, accel string) {
	name := scenarioOf(results[0])
	heading := name
	if about := aboutScenario(name); about != "" {
		heading += ": " + about
	}
	switch accel {
	case "tcg":
		heading = "under TCG: " + heading
	case "pvm":
		heading = "under PVM: " + heading
	}
	fmt.Fprintf(b, "\n%s\n", table.Beside(heading, 0, width))
	var subjects []bench.Subject // the subjects that have a figure
	for _, r := range results {
		if len(r.Values) > 0 && !slices.Contains(subjects, r.Subject) {
			subjects = append(subjects, r.Subject)
		}
	}
	if subjects != nil {
		b.WriteString(table.Text{Width: width}.Write(benchRows(results, subjects)))
	}
	notMeasured(b, results, width)
}

// benchRows is the scenario's table, with a column for each subject. Each metric has a
// row of medians, and a row of ratios to the baselines if there are any.
func benchRows(results []bench.Result, subjects []bench.Subject) *table.Table {
	names := table.Row("")
	for _, s := range subjects {
		names = append(names, indented(s.String()))
	}
	var rows [][]table.Cell
	for metric := range groupBy(results, func(r bench.Result) string { return r.Name }) {
		scale := scaleOf(metric)
		_, short, _ := strings.Cut(metric[0].Name, "/")
		row, baseline := table.Row("  "+short+", "+scale.unit), table.Row("    of the baseline")
		measured, compared := false, false
		for _, s := range subjects {
			cell, ratio := "", ""
			if i := slices.IndexFunc(metric, func(r bench.Result) bool { return r.Subject == s && len(r.Values) > 0 }); i >= 0 {
				measured = true
				cell = scale.cell(metric[i])
				if c := metric[i].AgainstBaseline; c != nil {
					compared = true
					ratio = comparison(c)
				}
			}
			row, baseline = append(row, indented(cell)), append(baseline, indented(ratio))
		}
		if measured {
			rows = append(rows, row)
		}
		if compared {
			rows = append(rows, baseline)
		}
	}
	return &table.Table{Head: [][]table.Cell{names}, Groups: []table.Group{{Rows: rows}}}
}

// indented is a cell with more space before it.
func indented(text string) table.Cell {
	if text != "" {
		text = "  " + text
	}
	return table.Cell{Text: text}
}

// scale is the unit in which the figures of a metric are written.
type scale struct {
	factor float64 // from the metric's unit to unit
	prec   int
	unit   string
}

// scaleOf returns one scale for all results of a metric, with the unit prefix that
// suits the smallest.
func scaleOf(metric []bench.Result) scale {
	factor, unit := benchunit.Tidy(1, metric[0].Unit)
	var medians []float64
	for _, r := range metric {
		if len(r.Values) > 0 {
			medians = append(medians, r.Median*factor)
		}
	}
	common := benchunit.CommonScale(medians, benchunit.ClassOf(unit))
	if rest, ok := strings.CutPrefix(unit, "sec"); ok {
		unit = "s" + rest
	}
	return scale{factor / common.Factor, common.Prec, common.Prefix + unit}
}

// cell writes a result: the median, the wider side of its interval, and the
// comparison.
func (s scale) cell(r bench.Result) string {
	v := r.Median * s.factor
	// The scale fits the smallest figure; larger figures need no more digits.
	digits := len(strconv.FormatFloat(math.Abs(math.Trunc(v)), 'f', 0, 64))
	text := fmt.Sprintf("%.*f", max(0, min(s.prec, 4-digits)), v)
	switch spread := max(r.High-r.Median, r.Median-r.Low); {
	case r.Confidence < bench.Confidence:
		text += fmt.Sprintf(" (n=%d)", len(r.Values))
	case r.Median != 0:
		text += fmt.Sprintf(" ±%.0f%%", math.Abs(100*spread/r.Median))
	}
	if r.Against != nil {
		text += " " + comparison(r.Against)
	}
	return text
}

// comparison writes a ratio, or ~ if no difference was seen, or ? if there are too few
// values to see one.
func comparison(c *bench.Comparison) string {
	switch {
	case c.Verdict == bench.NoDifference:
		return "~"
	case c.Verdict == bench.TooFew:
		return "?"
	case c.Ratio == 0:
		return c.Verdict
	}
	if c.Ratio >= 100 {
		return fmt.Sprintf("%.0f×", c.Ratio)
	}
	return fmt.Sprintf("%.2f×", c.Ratio)
}

// notMeasured writes which subjects have no figures, or too few, and why.
func notMeasured(b *strings.Builder, results []bench.Result, width int) {
	var order []string // reasons
	who := map[string][]string{}
	for _, r := range results {
		if r.Status == bench.Measured {
			continue
		}
		why := fmt.Sprintf("%s: %s", r.Status, table.OneLine(r.Reason))
		if who[why] == nil {
			order = append(order, why)
		}
		if s := r.Subject.String(); !slices.Contains(who[why], s) {
			who[why] = append(who[why], s)
		}
	}
	for _, why := range order {
		fmt.Fprintf(b, "  %s\n", table.Beside(strings.Join(who[why], ", ")+": "+why, 4, width))
	}
}

// benchLegend explains the signs that were used.
func benchLegend(doc *bench.Document, width int) string {
	signs := "Medians, ± the wider side of their 95 % interval."
	for _, r := range doc.Results {
		if r.Against != nil {
			signs += fmt.Sprintf(" × is the ratio to %s; ~: no difference seen (p ≥ 0.05, or an interval is wider than the difference); ?: too few values.", r.Against.Subject)
			break
		}
	}
	return table.Beside(signs, 0, width) + "\n"
}
