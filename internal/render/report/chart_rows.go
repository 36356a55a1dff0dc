package report

import (
	"fmt"
	"html"
)

// row is a value with its interval.
type row struct {
	mark           mark
	label          string // over the strip, on the left
	value, verdict string // on the right: the verdict last, in its ink
	verdictInk     ink

	median, low, high float64
	raw               []float64
}

// rowsChart is rows, one below the other on one axis: each a strip with the
// single values as dots, their median's interval as a bar, and the median as
// the subject's mark.
type rowsChart struct {
	rows  []row
	axis  axis
	label string   // of the axis
	line  *float64 // where to draw a line down all rows, such as at 1
}

// Heights in points.
const (
	rowHeight = 30
	stripAt   = 20 // below the top of a row
)

// maxDots is how many values are drawn one by one. Of more, the interval says
// enough.
const maxDots = 60

func (rc rowsChart) height() float64 { return float64(axisHeight + rowHeight*len(rc.rows)) }

func (rc rowsChart) draw(p *picture) {
	f := frame{x: rc.axis, left: 14, right: chartWidth - 14, bottom: rc.height() - axisHeight}
	f.horizontal(p, rc.label)
	for i, r := range rc.rows {
		// Lines are drawn about the strips only: through the words they would
		// make those hard to read.
		top := float64(i * rowHeight)
		y := top + stripAt
		for _, v := range rc.axis.marks() {
			p.line(inkGrid, 0.8, f.atX(v), y-6, f.atX(v), y+8, "")
		}
		if rc.line != nil {
			p.line(inkMuted, 1.2, f.atX(*rc.line), y-7, f.atX(*rc.line), y+9, "")
		}
		r.draw(p, f, top)
	}
}

func (r row) draw(p *picture, f frame, top float64) {
	baseline := top + 10
	p.text(inkText, textSize, 5, baseline, atStart, label(r.label, 44))
	verdict := ""
	if r.verdict != "" {
		gap := min(8, 8*len(r.value))
		verdict = fmt.Sprintf(`<tspan class="f-%s" dx="%d">%s</tspan>`, r.verdictInk.class, gap, html.EscapeString(r.verdict))
	}
	fmt.Fprintf(p, `<text class="f-text" x="%d" y="%s" font-size="%s"%s>%s%s</text>`+"\n",
		chartWidth-5, num(baseline), num(textSize), atEnd, html.EscapeString(r.value), verdict)

	y := top + stripAt
	within := func(v float64) float64 { return min(max(f.atX(v), f.left), f.right) }
	p.line(inkGrid, 1, f.left, y, f.right, y, "")
	p.line(r.mark.ink, 5, within(r.low), y, max(within(r.high), within(r.low)+0.8), y, opacity(0.4))
	if len(r.raw) <= maxDots {
		var dots string
		for i, v := range r.raw {
			// Three lines, so that equal values show as several.
			dots += at('M', within(v), y+float64(i%3-1)*2.6-0.8) + "v1.6"
		}
		if dots != "" {
			p.stroke(r.mark.ink, 1.6, dots, opacity(0.7))
		}
	}
	p.mark(r.mark, within(r.median), y, 3.6)
}
