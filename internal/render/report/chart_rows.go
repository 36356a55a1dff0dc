package report

import (
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
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
	rowHeight  = 30
	stripAt    = 20 // below the top of a row
	axisHeight = 30
)

// maxDots is how many values are drawn one by one. Of more, the interval says
// enough.
const maxDots = 60

func (rc rowsChart) height() vg.Length { return vg.Length(axisHeight + rowHeight*len(rc.rows)) }

func (rc rowsChart) draw(c draw.Canvas) {
	p := newPlot()
	rc.axis.apply(&p.X)
	p.HideY()
	p.Y.Min, p.Y.Max = 0, 1
	p.Add(rc)
	p.Draw(draw.Crop(axisLabel(c, rc.label), 5, -5, 0, 0))
}

// Plot implements plot.Plotter.
func (rc rowsChart) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	for i, r := range rc.rows {
		top := c.Max.Y - vg.Length(i*rowHeight)
		// Lines are drawn about the strips only: through the words they would
		// make those hard to read.
		y := top - stripAt
		for _, v := range rc.axis.marks() {
			c.StrokeLine2(draw.LineStyle{Color: inkGrid, Width: 0.8}, x(v), y-8, x(v), y+6)
		}
		if rc.line != nil {
			c.StrokeLine2(draw.LineStyle{Color: inkMuted, Width: 1.2}, x(*rc.line), y-9, x(*rc.line), y+7)
		}
		r.draw(c, x, top)
	}
}

func (r row) draw(c draw.Canvas, x func(float64) vg.Length, top vg.Length) {
	baseline := top - 12
	c.FillText(style(inkText, 10, draw.XLeft, draw.YBottom), vg.Point{X: c.Min.X, Y: baseline}, label(r.label, 44))
	right := c.Max.X
	if r.verdict != "" {
		s := style(r.verdictInk, 10, draw.XRight, draw.YBottom)
		c.FillText(s, vg.Point{X: right, Y: baseline}, r.verdict)
		right -= s.Width(r.verdict) + 8
	}
	c.FillText(style(inkText, 10, draw.XRight, draw.YBottom), vg.Point{X: right, Y: baseline}, r.value)

	y := top - stripAt
	within := func(v float64) vg.Length { return min(max(x(v), c.Min.X), c.Max.X) }
	c.StrokeLine2(draw.LineStyle{Color: inkGrid, Width: 1}, c.Min.X, y, c.Max.X, y)
	var dots vg.Path
	if len(r.raw) <= maxDots {
		for i, v := range r.raw {
			// Three lines, so that equal values show as several.
			at := vg.Point{X: within(v), Y: y + vg.Length(i%3-1)*2.6 - 0.8}
			dots.Move(at)
			dots.Line(vg.Point{X: at.X, Y: at.Y + 1.6})
		}
	}
	c.StrokeLine2(draw.LineStyle{Color: r.mark.ink.faint(0x66), Width: 5}, within(r.low), y, max(within(r.high), within(r.low)+0.8), y)
	if len(dots) > 0 {
		c.SetLineStyle(draw.LineStyle{Color: r.mark.ink.faint(0xb0), Width: 1.6})
		c.Stroke(dots)
	}
	r.mark.draw(c, vg.Point{X: within(r.median), Y: y}, 3.6)
}
