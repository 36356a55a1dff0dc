package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

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

// chartsOf are the two pictures of a run: where each page was, and how much
// there was of each kind, over the same time.
func chartsOf(s *Source) []chart {
	t := s.Trace
	title := fmt.Sprintf("%s in %s", cut(t.Guest, 60), t.Pair)
	note := s.Name
	if at, err := time.Parse(time.RFC3339, t.Started); err == nil {
		note += ", " + at.UTC().Format("2006-01-02")
	}
	m, l := exposureMap{t}, exposureLine{t}
	return []chart{
		{Title: title + ": where its pages are", Note: note, alt: traceSummary(t), height: mapHeight, draw: m.draw},
		{Title: title + ": how much is exposed", Note: note, alt: traceSummary(t), height: lineHeight, draw: l.draw},
	}
}

// Heights in points.
const (
	mapHeight  = 250
	lineHeight = 210
)

// Size of the drawn map at most. A trace's own is larger, and its cells are put
// together.
const (
	mapColumns = 120
	mapRows    = 64
)

// The kinds of pages, as the legends call them.
var pageKinds = []struct {
	name string
	ink  ink
}{{"the host can read it", inkExposed}, {"hidden", inkHidden}, {"untouched", inkUntouched}}

// plotTime draws the legend of n kinds and the axes, whose horizontal one is
// the time of the trace.
func plotTime(p *picture, t *exposuremap.Trace, kinds int, height float64, y axis) frame {
	var names []string
	for _, k := range pageKinds[:kinds] {
		names = append(names, k.name)
	}
	top := p.legend(0, names, func(i int, x, y float64) { p.fill(pageKinds[i].ink, area(x-5, y-4.5, x+4, y+4.5), "") })
	x := axis{low: 0, high: t.Samples[len(t.Samples)-1].MS, format: func(v float64) string { return round(v / 1e3) }}
	if x.high <= 0 {
		x.high = 1
	}
	f := plotUnder(top+8, height, x, y)
	f.horizontal(p, "seconds")
	f.vertical(p)
	return f
}

// bytesAxis is an axis of bytes from 0 on, with marks in steps.
func bytesAxis(high, step float64) axis {
	a := axis{low: 0, high: max(1, high), format: func(v float64) string { return size(uint64(v)) }}
	for v := 0.0; v <= high; v += step {
		a.fixed = append(a.fixed, v)
	}
	return a
}

// exposureMap draws guest RAM over time: time to the right, addresses upwards.
type exposureMap struct{ *exposuremap.Trace }

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

// draw lays the colours on one another: how much has memory at all, and over it
// how much of that is exposed.
func (m exposureMap) draw(p *picture) {
	f := plotTime(p, m.Trace, 3, mapHeight, bytesAxis(float64(m.Memory), max(1, float64(m.Memory/4))))
	p.fill(inkUntouched, area(f.left, f.top, f.right, f.bottom), "")
	columns := m.columns()
	for _, layer := range []struct {
		ink   ink
		share func(mapRow) float64
	}{
		{inkHidden, func(r mapRow) float64 { return r.hidden + r.exposed }},
		{inkExposed, func(r mapRow) float64 { return r.exposed / max(r.hidden+r.exposed, 1e-9) }},
	} {
		var paths [shades + 1]strings.Builder
		for _, col := range columns {
			at := func(row int) float64 { return f.atY(float64(m.Memory) * float64(row) / float64(len(col.rows))) }
			for i := 0; i < len(col.rows); {
				j, s := i+1, shade(layer.share(col.rows[i]))
				for j < len(col.rows) && shade(layer.share(col.rows[j])) == s {
					j++
				}
				paths[s].WriteString(area(f.atX(col.from), at(i), f.atX(col.to), at(j)))
				i = j
			}
		}
		for s := 1; s <= shades; s++ {
			if paths[s].Len() > 0 {
				p.fill(layer.ink, paths[s].String(), opacity(float64(s)/shades))
			}
		}
	}
	userland(p, f, m.Trace)
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
func userland(p *picture, f frame, t *exposuremap.Trace) {
	if t.ToUserland == nil || *t.ToUserland > t.Samples[len(t.Samples)-1].MS {
		return
	}
	const text = "userland"
	x := f.atX(*t.ToUserland)
	p.line(inkText, 0.8, x, f.top, x, f.bottom, ` stroke-dasharray="2 2"`)
	left := x + 3
	if x > (f.left+f.right)/2 {
		left = x - 3 - textWidth(text, tickSize)
	}
	p.fill(inkPaper, area(left-1, f.top+2, left+textWidth(text, tickSize)+1, f.top+15), opacity(0.8))
	p.text(inkText, tickSize, left, f.top+12, atStart, text)
}

// exposureLine draws how much was hidden and exposed over time, stacked.
type exposureLine struct{ *exposuremap.Trace }

func (l exposureLine) draw(p *picture) {
	top := uint64(0)
	for _, s := range l.Samples {
		top = max(top, s.Hidden+s.Exposed(), s.ExposedPeak)
	}
	step := 1.0
	for float64(top)/step > 5 {
		step *= 2
	}
	f := plotTime(p, l.Trace, 2, lineHeight, bytesAxis(float64(top)*1.08, step))
	bottom := make([]uint64, len(l.Samples))
	layer := func(i ink, of func(exposuremap.Sample) uint64) {
		var upper, lower strings.Builder
		for k, s := range l.Samples {
			upper.WriteString(at("ML"[min(k, 1)], f.atX(s.MS), f.atY(float64(bottom[k]+of(s)))))
		}
		for k, s := range slices.Backward(l.Samples) {
			lower.WriteString(at('L', f.atX(s.MS), f.atY(float64(bottom[k]))))
			bottom[k] += of(s)
		}
		p.fill(i, upper.String()+lower.String()+"Z", "")
	}
	layer(inkExposed, exposuremap.Sample.Exposed)
	layer(inkHidden, func(s exposuremap.Sample) uint64 { return s.Hidden })
	if y := f.atY(float64(l.Window)); l.Window > 0 && y >= f.top {
		p.line(inkText, 0.8, f.left, y, f.right, y, ` stroke-dasharray="4 2"`)
		p.text(inkText, tickSize, f.right-2, y-3, atEnd, "the window's size")
	}
	userland(p, f, l.Trace)
}
