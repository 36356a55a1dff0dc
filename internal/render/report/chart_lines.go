package report

import (
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// linePoint is a median with its interval.
type linePoint struct{ x, median, low, high float64 }

// line is a subject's curve, its points in the order of x.
type line struct {
	mark   mark
	label  string
	points []linePoint
}

// linesChart is curves of one metric.
type linesChart struct {
	lines          []line
	x, y           axis
	labelX, labelY string
}

const (
	linesHeight  = 190 // of the data with its axes
	legendHeight = 14  // of a line of the legend
)

// legendAt places the entries of the legend in lines, as many in each as fit.
func (lc linesChart) legendAt() (at []vg.Point, height vg.Length) {
	const mark, gap = 12, 14
	var x, y vg.Length
	s := style(inkText, 10, draw.XLeft, draw.YBottom)
	for _, l := range lc.lines {
		w := s.Width(label(l.label, 40)) + mark
		if x > 0 && x+w > chartWidth-8 {
			x, y = 0, y+legendHeight
		}
		at = append(at, vg.Point{X: x, Y: y})
		x += w + gap
	}
	return at, y + legendHeight
}

func (lc linesChart) height() vg.Length {
	_, h := lc.legendAt()
	return linesHeight + h + 12 // the label of y
}

func (lc linesChart) draw(c draw.Canvas) {
	at, h := lc.legendAt()
	for i, l := range lc.lines {
		y := c.Max.Y - at[i].Y - legendHeight + 4
		l.mark.draw(c, vg.Point{X: c.Min.X + at[i].X + 5, Y: y + 3.5}, 3.4)
		c.FillText(style(inkText, 10, draw.XLeft, draw.YBottom), vg.Point{X: c.Min.X + at[i].X + 12, Y: y}, label(l.label, 40))
	}
	c = draw.Crop(c, 0, -8, 0, -h)
	c.FillText(style(inkMuted, 9.5, draw.XLeft, draw.YTop), vg.Point{X: c.Min.X, Y: c.Max.Y}, lc.labelY)
	p := newPlot()
	lc.x.apply(&p.X)
	lc.y.apply(&p.Y)
	p.X.Padding, p.Y.Padding = 3, 3
	p.Add(grid{lc.y}, lc)
	p.Draw(draw.Crop(axisLabel(c, lc.labelX), 0, 0, 0, -14))
}

// Plot implements plot.Plotter.
func (lc linesChart) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, l := range lc.lines {
		var path vg.Path
		for i, q := range l.points {
			at := vg.Point{X: x(q.x), Y: y(q.median)}
			if i == 0 {
				path.Move(at)
			} else {
				path.Line(at)
			}
			c.StrokeLine2(draw.LineStyle{Color: l.mark.ink.faint(0x80), Width: 3}, at.X, y(q.low), at.X, y(q.high))
		}
		c.SetLineStyle(draw.LineStyle{Color: l.mark.ink, Width: 1.3})
		c.Stroke(path)
	}
	for _, l := range lc.lines {
		for _, q := range l.points {
			l.mark.draw(c, vg.Point{X: x(q.x), Y: y(q.median)}, 2.8)
		}
	}
}
