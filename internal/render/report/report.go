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
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Report is documents, put together.
type Report struct {
	title   string
	sources []*Source
	figures []figure // of all benchmarks, in the order of the documents
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

// WritePNG calls write with the PNG image of each chart and a file name for
// it, in the light theme.
func (r *Report) WritePNG(write func(name string, png []byte) error) error {
	var used []string
	for _, c := range r.charts() {
		image, err := c.png()
		if err != nil {
			return fmt.Errorf("chart %s: %w", c.name, err)
		}
		name := fileName(c.name)
		for i := 2; slices.Contains(used, name); i++ {
			name = fmt.Sprintf("%s-%d", fileName(c.name), i)
		}
		used = append(used, name)
		if err := write(name+".png", image); err != nil {
			return err
		}
	}
	return nil
}

// unnameable is what a chart's file isn't called after.
var unnameable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[^a-zA-Z0-9.]+`)
})

// fileName makes a file's name of a chart's: letters, digits, dots and dashes,
// and not too many of them.
func fileName(s string) string {
	const most = 100
	s = unnameable().ReplaceAllString(s, "-")
	return strings.Trim(s[:min(len(s), most)], "-.")
}
