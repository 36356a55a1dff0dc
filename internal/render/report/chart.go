package report

import (
	"bytes"
	"fmt"
	"image/png"
	"math"
	"strings"
	"unicode"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
)

// chart is a picture with its words. The page sets the words in HTML; an image
// file has them in it.
type chart struct {
	name   string // for its file
	title  string
	note   string // may be empty
	alt    string // what it shows, for those who can't see it
	height vg.Length
	draw   func(draw.Canvas)
}

// chartWidth is that of all charts, in points. In the page a point is a pixel
// on a narrow screen, and up to half as much again on a wide one: charts stand
// side by side there, and their text stays readable everywhere.
const chartWidth = 340

func (c chart) svg() string {
	canvas := newSVG(chartWidth, c.height)
	c.draw(draw.New(canvas))
	return canvas.svg(c.title + ". " + c.alt)
}

// png is the chart as an image file: in the light theme, with its title.
func (c chart) png() ([]byte, error) {
	const margin, title = 12, 34
	canvas := vgimg.NewWith(vgimg.UseWH(chartWidth+2*margin, c.height+2*margin+title), vgimg.UseDPI(216), vgimg.UseBackgroundColor(inkPaper))
	dc := draw.Crop(draw.New(canvas), margin, -margin, margin, -margin)
	heading := style(inkText, 11, draw.XLeft, draw.YTop)
	heading.Font.Weight = bold
	dc.FillText(heading, vg.Point{X: dc.Min.X, Y: dc.Max.Y}, label(c.title, 64))
	dc.FillText(style(inkMuted, 8, draw.XLeft, draw.YTop), vg.Point{X: dc.Min.X, Y: dc.Max.Y - 15}, label(c.note, 96))
	c.draw(draw.Crop(dc, 0, 0, 0, -title))
	var b bytes.Buffer
	if err := png.Encode(&b, canvas.Image()); err != nil {
		return nil, fmt.Errorf("make a PNG: %w", err)
	}
	return b.Bytes(), nil
}

const bold = stdfont.WeightBold

// label is a text for a chart: of n characters, in one line.
func label(s string, n int) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, cut(s, n))
}

// style is a text style.
func style(i ink, size vg.Length, x text.XAlignment, y text.YAlignment) text.Style {
	return text.Style{
		Color: i, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		XAlign: x, YAlign: y, Handler: plot.DefaultTextHandler,
	}
}

// newPlot makes a plot with the look of all charts: a quiet frame, so that the
// data stands out.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil // the page's
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle = draw.LineStyle{Color: inkMuted, Width: 0.6}
		a.Tick.LineStyle = draw.LineStyle{Color: inkMuted, Width: 0.6}
		a.Tick.Length = 3
		a.Padding = 0
	}
	p.X.Tick.Label = style(inkMuted, 9.5, draw.XCenter, draw.YTop)
	p.Y.Tick.Label = style(inkMuted, 9.5, draw.XRight, draw.YCenter)
	return p
}

// axisLabel draws what a horizontal axis is of along the bottom, and returns
// what is left for the plot. The plot's own label would be centred by values,
// which on a logarithmic axis is far from the middle.
func axisLabel(c draw.Canvas, text string) draw.Canvas {
	c.FillText(style(inkMuted, 9.5, draw.XCenter, draw.YBottom), vg.Point{X: c.Center().X, Y: c.Min.Y + 2}, text)
	return draw.Crop(c, 0, 0, 13, 0)
}

// axis is the range of values on an axis, and how they are written there.
type axis struct {
	low, high float64
	log       bool
	format    func(float64) string
	binary    bool // ticks at powers of two, of a logarithmic axis
}

// logFrom is from what ratio on the largest of positive values makes the
// smallest too small to see on a linear axis.
const logFrom = 25

// span makes an axis for values. A linear one begins at 0, so that lengths can
// be compared.
func span(low, high float64, format func(float64) string) axis {
	a := axis{low: low, high: high, format: format}
	switch {
	case low > 0 && high/low > logFrom:
		a.log = true
		a.low, a.high = low/1.25, high*1.25
	case low >= 0:
		a.low, a.high = 0, high*1.05
	default:
		pad := (high - low) * 0.05
		a.low, a.high = low-pad, high+pad
	}
	if a.high == a.low {
		a.high++
	}
	return a
}

// apply sets a plot's axis.
func (a axis) apply(to *plot.Axis) {
	to.Min, to.Max = a.low, a.high
	if a.log {
		to.Scale = plot.LogScale{}
	}
	to.Tick.Marker = a
}

// Ticks implements plot.Ticker for the axis's own range.
func (a axis) Ticks(float64, float64) (ticks []plot.Tick) {
	for _, v := range a.marks() {
		ticks = append(ticks, plot.Tick{Value: v, Label: a.format(v)})
	}
	return ticks
}

// marks are the round values on the axis, three to eight of them.
func (a axis) marks() (list []float64) {
	if !a.log {
		step := roundStep((a.high - a.low) / 4)
		for i := math.Ceil(a.low / step); i*step <= a.high*(1+1e-9) && len(list) < 12; i++ {
			list = append(list, i*step)
		}
		return list
	}
	base, factors := 10.0, []float64{1, 2, 5}
	if a.binary {
		base, factors = 2, []float64{1}
	}
	from := math.Floor(math.Log(a.low) / math.Log(base))
	to := math.Ceil(math.Log(a.high) / math.Log(base))
	for {
		list = nil
		stride := max(1, math.Ceil((to-from)*float64(len(factors))/8))
		if len(factors) > 1 && stride > 1 {
			factors = factors[:1] // whole powers only
			continue
		}
		for e := from; e <= to; e += stride {
			for _, f := range factors {
				if v := f * math.Pow(base, e); v >= a.low*(1-1e-9) && v <= a.high*(1+1e-9) {
					list = append(list, v)
				}
			}
		}
		return list
	}
}

// roundStep is the next larger of 1, 2 and 5 times a power of ten.
func roundStep(v float64) float64 {
	if !(v > 0) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*p >= v {
			return f * p
		}
	}
	return 10 * p
}

// grid draws thin lines at the marks of the vertical axis, behind the data.
type grid struct{ axis }

// Plot implements plot.Plotter.
func (g grid) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	for _, v := range g.marks() {
		c.StrokeLine2(draw.LineStyle{Color: inkGrid, Width: 0.8}, c.Min.X, y(v), c.Max.X, y(v))
	}
}

// shape is that of a subject's marks.
type shape int

const (
	disc shape = iota
	square
	triangle
	flipped // triangle
	diamond
	cross
)

// draw draws the mark about a point, about 2r wide.
func (m mark) draw(c draw.Canvas, at vg.Point, r vg.Length) {
	var p vg.Path
	corners := func(list ...vg.Point) {
		for i, q := range list {
			q = vg.Point{X: at.X + q.X*r, Y: at.Y + q.Y*r}
			if i == 0 {
				p.Move(q)
			} else {
				p.Line(q)
			}
		}
	}
	switch m.shape {
	case disc:
		p.Move(vg.Point{X: at.X + r, Y: at.Y})
		p.Arc(at, r, 0, 2*math.Pi)
	case square:
		corners(vg.Point{X: -.9, Y: -.9}, vg.Point{X: .9, Y: -.9}, vg.Point{X: .9, Y: .9}, vg.Point{X: -.9, Y: .9})
	case triangle:
		corners(vg.Point{X: -1.1, Y: -.8}, vg.Point{X: 1.1, Y: -.8}, vg.Point{Y: 1.1})
	case flipped:
		corners(vg.Point{X: -1.1, Y: .8}, vg.Point{X: 1.1, Y: .8}, vg.Point{Y: -1.1})
	case diamond:
		corners(vg.Point{X: -1.2}, vg.Point{Y: -1.2}, vg.Point{X: 1.2}, vg.Point{Y: 1.2})
	case cross:
		line := draw.LineStyle{Color: m.ink, Width: r * 0.6}
		c.StrokeLine2(line, at.X-r, at.Y-r, at.X+r, at.Y+r)
		c.StrokeLine2(line, at.X-r, at.Y+r, at.X+r, at.Y-r)
		return
	}
	p.Close()
	// A rim of paper sets it off from what is behind it.
	c.SetLineStyle(draw.LineStyle{Color: inkPaper, Width: 1.2})
	c.Stroke(p)
	c.SetColor(m.ink)
	c.Fill(p)
}
