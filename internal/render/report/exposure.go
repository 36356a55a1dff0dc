package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"offmap/internal/measure/exposuremap"
)

// traceSummary says what of a guest was exposed while it ran.
func traceSummary(t *exposuremap.Trace) string {
	last := t.Samples[len(t.Samples)-1]
	text := fmt.Sprintf("A guest (%s) with %s of RAM in %s memory ran for %s: ", cut(t.Guest, 80), size(t.Memory), t.Pair, seconds1(last.MS))
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
	title := fmt.Sprintf("%s in %s", cut(t.Guest, 60), t.Pair)
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
	mapColumns = 120
	mapRows    = 64
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
	address := axis{low: 0, high: float64(m.Memory), format: func(v float64) string { return size(uint64(v)) }}
	address.apply(&p.Y)
	p.Y.Tick.Marker = plot.ConstantTicks(sizeTicks(m.Memory))
	p.Add(m)
	p.Draw(draw.Crop(axisLabel(c, "seconds"), 0, -10, 0, -18))
}

// sizeTicks are marks for a number of bytes: at its quarters.
func sizeTicks(bytes uint64) (ticks []plot.Tick) {
	for i := range uint64(5) {
		v := bytes / 4 * i
		ticks = append(ticks, plot.Tick{Value: float64(v), Label: size(v)})
	}
	return ticks
}

// shades is in how many strengths a colour of the map comes.
const shades = 8

// shade is the strength for a share of pages: at least a visible one, where
// there are any.
func shade(share float64) int {
	if share <= 0 {
		return 0
	}
	return min(shades, 2+int(share*(shades-2)+0.5))
}

// Plot implements plot.Plotter. The colours lie on one another: how much has
// memory at all, and over it how much of that is exposed.
func (m exposureMap) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	c.SetColor(inkUntouched)
	c.Fill(c.Rectangle.Path())
	columns := m.columns()
	for _, layer := range []struct {
		ink   ink
		share func(mapRow) float64
	}{
		{inkHidden, func(r mapRow) float64 { return r.hidden + r.exposed }},
		{inkExposed, func(r mapRow) float64 { return r.exposed / max(r.hidden+r.exposed, 1e-9) }},
	} {
		var paths [shades + 1]vg.Path
		for _, col := range columns {
			at := func(row int) vg.Length { return y(float64(m.Memory) * float64(row) / float64(len(col.rows))) }
			for i := 0; i < len(col.rows); {
				j, s := i+1, shade(layer.share(col.rows[i]))
				for j < len(col.rows) && shade(layer.share(col.rows[j])) == s {
					j++
				}
				paths[s] = append(paths[s], vg.Rectangle{Min: vg.Point{X: x(col.from), Y: at(i)}, Max: vg.Point{X: x(col.to), Y: at(j)}}.Path()...)
				i = j
			}
		}
		for s := 1; s <= shades; s++ {
			if len(paths[s]) > 0 {
				c.SetColor(layer.ink.faint(uint8(255 * s / shades)))
				c.Fill(paths[s])
			}
		}
	}
	userland(c, x, m.Trace)
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
	align, off := draw.XRight, vg.Length(-3)
	if at < c.Center().X {
		align, off = draw.XLeft, 3
	}
	s := style(inkText, 9.5, align, draw.YTop)
	box := s.Rectangle("userland").Add(vg.Point{X: at + off, Y: c.Max.Y - 3})
	c.SetColor(inkPaper.faint(0xc8))
	c.Fill(box.Path())
	c.FillText(s, vg.Point{X: at + off, Y: c.Max.Y - 3}, "userland")
}

// exposureLine draws how much was hidden and exposed over time, stacked.
type exposureLine struct{ *exposuremap.Trace }

func (l exposureLine) draw(c draw.Canvas) {
	legend(c, []legendEntry{{"the host can read it", inkExposed}, {"hidden", inkHidden}})
	p := newPlot()
	timeAxis(l.Trace).apply(&p.X)
	top := uint64(0)
	for _, s := range l.Samples {
		top = max(top, s.Hidden+s.Exposed(), s.ExposedPeak)
	}
	p.Y.Min, p.Y.Max = 0, max(1, float64(top)*1.08)
	p.Y.Tick.Marker = plot.ConstantTicks(roundSizes(float64(top)))
	p.Add(l)
	p.Draw(draw.Crop(axisLabel(c, "seconds"), 0, -10, 0, -18))
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
