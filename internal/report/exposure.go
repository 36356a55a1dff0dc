package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"offmap/internal/exposuremap"
)

// traceSummary says what of a guest was exposed while it ran.
func traceSummary(t *exposuremap.Trace) string {
	last := t.Samples[len(t.Samples)-1]
	text := fmt.Sprintf("A guest (%s) with %s of RAM in %s+%s memory ran for %s: ", cut(t.Guest, 80), size(t.Memory), t.Backend, t.Attach, seconds1(last.MS))
	most := slices.MaxFunc(t.Samples, func(a, b exposuremap.Sample) int { return cmp.Compare(a.Hidden+a.Exposed(), b.Hidden+b.Exposed()) })
	used := most.Hidden + most.Exposed()
	switch {
	case last.ExposedPeak == 0:
		text += "nothing of it was ever exposed to the host"
	case t.Window > 0:
		text += fmt.Sprintf("at most %s of it was exposed to the host, in a window of %s", size(last.ExposedPeak), size(t.Window))
	default:
		text += fmt.Sprintf("up to %s of it was exposed to the host", size(last.ExposedPeak))
	}
	return text + fmt.Sprintf(", of %s in use at the most.", size(used))
}

func seconds1(ms float64) string { return quantity(ms/1e3, "sec") }

// traceCharts are the two pictures of a run: where each page was, and how much
// there was of each kind, over the same time.
func traceCharts(s *Source) []chart {
	t := s.Trace
	title := fmt.Sprintf("%s in %s+%s", cut(t.Guest, 60), t.Backend, t.Attach)
	note := s.Name
	if at, err := time.Parse(time.RFC3339, t.Started); err == nil {
		note += ", " + at.UTC().Format("2006-01-02")
	}
	m, l := exposureMap{t}, exposureLine{t}
	return []chart{
		{name: "exposure-map-" + s.Name, title: title + ": where its pages are", note: note, alt: traceSummary(t), height: mapHeight, draw: m.draw},
		{name: "exposure-time-" + s.Name, title: title + ": how much is exposed", note: note, alt: traceSummary(t), height: areaHeight, draw: l.draw},
	}
}

// Sizes in points.
const (
	mapHeight  = 250
	areaHeight = 210
)

// Size of the drawn map at most. A trace's own is larger, and its cells are put
// together.
const (
	mapColumns = 150
	mapRows    = 96
)

// timeAxis is that of both pictures.
func timeAxis(t *exposuremap.Trace) axis {
	a := axis{low: 0, high: t.Samples[len(t.Samples)-1].MS, format: func(v float64) string { return round(v / 1e3) }}
	if a.high <= 0 {
		a.high = 1
	}
	return a
}

// exposureMap draws guest RAM over time: time to the right, addresses upwards.
type exposureMap struct{ *exposuremap.Trace }

func (m exposureMap) draw(c draw.Canvas) {
	legend(c, []legendEntry{{"the host can read it", inkExposed}, {"hidden", inkHidden}, {"untouched", inkUntouched}})
	p := newPlot()
	timeAxis(m.Trace).apply(&p.X)
	p.X.Label.Text = "seconds"
	address := axis{low: 0, high: float64(m.Memory), format: func(v float64) string { return size(uint64(v)) }}
	address.apply(&p.Y)
	p.Y.Tick.Marker = plot.ConstantTicks(sizeTicks(m.Memory))
	p.Add(m)
	p.Draw(draw.Crop(c, 0, -10, 0, -18))
}

// sizeTicks are marks for a number of bytes: at its quarters.
func sizeTicks(bytes uint64) (ticks []plot.Tick) {
	for i := range uint64(5) {
		v := bytes / 4 * i
		ticks = append(ticks, plot.Tick{Value: float64(v), Label: size(v)})
	}
	return ticks
}

// Plot implements plot.Plotter. A row of the map is filled from below by what is
// exposed of it and then by what is hidden, so that areas are true; what is
// exposed at all is at least a hair wide.
func (m exposureMap) Plot(c draw.Canvas, p *plot.Plot) {
	const hair = 0.4
	x, y := p.Transforms(&c)
	c.SetColor(inkUntouched)
	c.Fill(c.Rectangle.Path())
	columns := m.columns()
	var exposed, hidden stripes
	for _, col := range columns {
		at := x((col.from + col.to) / 2)
		for i, r := range col.rows {
			bottom := y(float64(m.Memory) * float64(i) / float64(len(col.rows)))
			height := y(float64(m.Memory)*float64(i+1)/float64(len(col.rows))) - bottom
			e := height * vg.Length(r.exposed)
			if r.exposed > 0 {
				e = max(e, hair)
			}
			h := min(height*vg.Length(r.hidden), height-e)
			exposed.add(at, bottom, bottom+e)
			hidden.add(at, bottom+e, bottom+e+h)
		}
	}
	width := c.Size().X/vg.Length(len(columns)) + 0.2
	for _, layer := range []struct {
		ink ink
		vg.Path
	}{{inkHidden, hidden.path}, {inkExposed, exposed.path}} {
		if len(layer.Path) > 0 {
			c.SetLineStyle(draw.LineStyle{Color: layer.ink, Width: width})
			c.Stroke(layer.Path)
		}
	}
	userland(c, x, m.Trace)
}

// stripes are vertical lines, those that meet made one.
type stripes struct {
	path  vg.Path
	x, to vg.Length
}

func (s *stripes) add(x, from, to vg.Length) {
	if to-from < 0.01 {
		return
	}
	if n := len(s.path); n > 0 && s.x == x && from-s.to < 0.01 {
		s.path[n-1].Pos.Y = to
	} else {
		s.path.Move(vg.Point{X: x, Y: from})
		s.path.Line(vg.Point{X: x, Y: to})
	}
	s.x, s.to = x, to
}

// mapColumn is a span of time, with what was where in it.
type mapColumn struct {
	from, to float64 // ms
	rows     []mapRow
}

// mapRow is the shares of neighbouring pages.
type mapRow struct{ hidden, exposed float64 }

// columns puts samples and cells together, to what can be drawn. A row is the
// mean of its cells and samples.
func (m exposureMap) columns() (list []mapColumn) {
	cells := len(m.Samples[0].Map)
	rows := min(cells, mapRows)
	per := (len(m.Samples) + mapColumns - 1) / mapColumns
	for i := 0; i < len(m.Samples); i += per {
		group := m.Samples[i:min(i+per, len(m.Samples))]
		col := mapColumn{from: group[0].MS, to: m.Samples[min(i+per, len(m.Samples)-1)].MS, rows: make([]mapRow, rows)}
		for k := range col.rows {
			from, to := k*cells/rows, (k+1)*cells/rows
			hidden, exposed := 0, 0
			for _, s := range group {
				for _, cell := range s.Map[from:to] {
					hidden += int(cell.Hidden())
					exposed += int(cell.Exposed())
				}
			}
			all := float64(len(group) * (to - from) * exposuremap.Full)
			col.rows[k] = mapRow{float64(hidden) / all, float64(exposed) / all}
		}
		list = append(list, col)
	}
	return list
}

// userland marks the time at which the guest's userland ran.
func userland(c draw.Canvas, x func(float64) vg.Length, t *exposuremap.Trace) {
	if t.ToUserland == nil || *t.ToUserland > t.Samples[len(t.Samples)-1].MS {
		return
	}
	at := x(*t.ToUserland)
	c.StrokeLine2(draw.LineStyle{Color: inkText, Width: 0.8, Dashes: []vg.Length{2, 2}}, at, c.Min.Y, at, c.Max.Y)
	c.FillText(style(inkText, 9.5, draw.XRight, draw.YTop), vg.Point{X: at - 3, Y: c.Max.Y - 3}, "userland")
}

// exposureLine draws how much was hidden and exposed over time, stacked.
type exposureLine struct{ *exposuremap.Trace }

func (l exposureLine) draw(c draw.Canvas) {
	legend(c, []legendEntry{{"the host can read it", inkExposed}, {"hidden", inkHidden}})
	p := newPlot()
	timeAxis(l.Trace).apply(&p.X)
	p.X.Label.Text = "seconds"
	top := uint64(0)
	for _, s := range l.Samples {
		top = max(top, s.Hidden+s.Exposed(), s.ExposedPeak)
	}
	p.Y.Min, p.Y.Max = 0, max(1, float64(top)*1.08)
	p.Y.Tick.Marker = plot.ConstantTicks(roundSizes(float64(top)))
	p.Add(l)
	p.Draw(draw.Crop(c, 0, -10, 0, -18))
}

// roundSizes are marks at round numbers of bytes up to a top: powers of two
// apart.
func roundSizes(top float64) (ticks []plot.Tick) {
	step := 1.0
	for top/step > 5 {
		step *= 2
	}
	for v := 0.0; v <= top; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: size(uint64(v))})
	}
	return ticks
}

// Plot implements plot.Plotter.
func (l exposureLine) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	bottom := make([]uint64, len(l.Samples))
	layer := func(i ink, of func(exposuremap.Sample) uint64) {
		var path vg.Path
		for k, s := range l.Samples {
			at := vg.Point{X: x(s.MS), Y: y(float64(bottom[k] + of(s)))}
			if k == 0 {
				path.Move(vg.Point{X: at.X, Y: y(float64(bottom[0]))})
			}
			path.Line(at)
		}
		for k, s := range slices.Backward(l.Samples) {
			path.Line(vg.Point{X: x(s.MS), Y: y(float64(bottom[k]))})
			bottom[k] += of(s)
		}
		path.Close()
		c.SetColor(i)
		c.Fill(path)
	}
	layer(inkExposed, exposuremap.Sample.Exposed)
	layer(inkHidden, func(s exposuremap.Sample) uint64 { return s.Hidden })
	if l.Window > 0 && float64(l.Window) <= p.Y.Max {
		at := y(float64(l.Window))
		c.StrokeLine2(draw.LineStyle{Color: inkText, Width: 0.8, Dashes: []vg.Length{4, 2}}, c.Min.X, at, c.Max.X, at)
		c.FillText(style(inkText, 9.5, draw.XRight, draw.YBottom), vg.Point{X: c.Max.X - 2, Y: at + 2}, "the window's size")
	}
	userland(c, x, l.Trace)
}

// legendEntry is a colour and what it means.
type legendEntry struct {
	text string
	ink  ink
}

// legend draws the entries in a line at the top.
func legend(c draw.Canvas, list []legendEntry) {
	at := vg.Point{X: c.Min.X, Y: c.Max.Y - 11}
	for _, e := range list {
		c.SetColor(e.ink)
		box := vg.Rectangle{Min: at, Max: vg.Point{X: at.X + 9, Y: at.Y + 9}}
		c.Fill(box.Path())
		s := style(inkText, 10, draw.XLeft, draw.YBottom)
		c.FillText(s, vg.Point{X: at.X + 13, Y: at.Y}, e.text)
		at.X += 13 + s.Width(e.text) + 14
	}
}
