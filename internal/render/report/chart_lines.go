package report

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

// linesHeight is the height of the data with its axes.
const linesHeight = 204

// legend draws the legend, and returns its height.
func (lc linesChart) legend(p *picture) float64 {
	var entries []string
	for _, l := range lc.lines {
		entries = append(entries, label(l.label, 40))
	}
	return p.legend(0, entries, func(i int, x, y float64) { p.mark(lc.lines[i].mark, x, y, 3.4) })
}

func (lc linesChart) height() float64 { return linesHeight + lc.legend(&picture{}) }

func (lc linesChart) draw(p *picture) {
	top := lc.legend(p)
	p.text(inkMuted, tickSize, 0, top+10, atStart, lc.labelY)
	f := plotUnder(top+20, top+linesHeight, lc.x, lc.y)
	for _, v := range lc.y.marks() {
		p.line(inkGrid, 0.8, f.left, f.atY(v), f.right, f.atY(v), "")
	}
	f.horizontal(p, lc.labelX)
	f.vertical(p)
	for _, l := range lc.lines {
		var curve string
		for i, q := range l.points {
			curve += at("ML"[min(i, 1)], f.atX(q.x), f.atY(q.median))
			p.line(l.mark.ink, 3, f.atX(q.x), f.atY(q.low), f.atX(q.x), f.atY(q.high), opacity(0.5))
		}
		p.stroke(l.mark.ink, 1.3, curve, "")
	}
	for _, l := range lc.lines {
		for _, q := range l.points {
			p.mark(l.mark, f.atX(q.x), f.atY(q.median), 2.8)
		}
	}
}
