// Package report turns the JSON documents that offmap's commands print into
// one page to look at: what secret memory costs, in words and in charts, what
// attacks came to, which limits hold, and what was exposed while guests ran.
//
// Documents are read as what strangers send: everything in them is bounded
// when it is read and escaped when it is shown. The page needs nothing but
// itself. It has no script, and its Content-Security-Policy allows none; the
// charts are SVG that takes its colours from the page's style sheet, so that
// they follow the reader's theme.
//
// Figures of different Accel never share an axis: emulated times say nothing
// about those of hardware.
package report

import (
	"cmp"
	"fmt"
	"io"
)

// Report is documents, put together.
type Report struct {
	title   string
	sources []*Source
	figures []benchResult // of all benchmarks, in the order of the documents
}

// New puts documents together, which are shown in this order. The title may be
// empty.
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
