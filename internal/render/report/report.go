// Package report turns the JSON documents that offmap's commands print into
// one HTML page: what secret memory costs, in words and in charts, which attacks
// exposed guest RAM, which limits hold, and what was exposed while guests ran.
//
// Documents may be hostile: their texts are bounded and escaped. The page loads
// nothing. It has no script, and its Content-Security-Policy allows none. The
// charts are SVG with classes in place of colours, so that they follow the
// reader's theme.
//
// Results of hosts with different Accel never share an axis: emulated times say
// nothing about hardware.
package report

import (
	"cmp"
	"fmt"
	"io"
)

// Report is a page in the making.
type Report struct {
	title   string
	sources []*Source
	figures []benchResult // of all benchmarks, in the order of the documents
}

// New makes a report of documents, which it shows in this order. The title may
// be empty.
func New(title string, sources []*Source) *Report {
	r := &Report{title: cmp.Or(title, "What secret guest memory costs, and what it hides"), sources: sources}
	name(sources)
	for _, s := range sources {
		r.figures = append(r.figures, figures(s)...)
	}
	return r
}

// WriteHTML writes the page.
func (r *Report) WriteHTML(w io.Writer) error {
	if err := pageTemplate().Execute(w, r.page()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}
