package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// chart is a picture with its words. The page sets the words in HTML.
type chart struct {
	Title, Note string // the note may be empty
	alt         string // what it shows, for those who can't see it
	height      float64
	draw        func(*picture)
}

// chartWidth is the width of all charts, in points. In the page a point is a
// pixel on a narrow screen, and up to half as much again on a wide one: charts
// stand side by side there, and their text stays readable everywhere.
const chartWidth = 340

// SVG draws the chart.
func (c chart) SVG() template.HTML {
	var p picture
	c.draw(&p)
	return template.HTML(fmt.Sprintf(`<svg role="img" aria-label="%s" viewBox="0 0 %d %s" xmlns="http://www.w3.org/2000/svg">`+"\n%s</svg>",
		html.EscapeString(c.Title+". "+c.alt), chartWidth, num(c.height), p.String()))
}

// picture is the inside of an SVG image, in points; y grows downwards. Colours
// are classes of the page's style sheet, so that they follow its theme. There
// are no style attributes: the page's Content-Security-Policy refuses them.
//
// Attributes that the methods are given begin with a space.
type picture struct{ strings.Builder }

// stroke draws a path.
func (p *picture) stroke(i ink, width float64, path, attrs string) {
	fmt.Fprintf(p, `<path class="s-%s" d="%s" fill="none" stroke-width="%s"%s/>`+"\n", i.class, path, num(width), attrs)
}

// line draws a straight line.
func (p *picture) line(i ink, width, x1, y1, x2, y2 float64, attrs string) {
	p.stroke(i, width, at('M', x1, y1)+at('L', x2, y2), attrs)
}

// fill fills a path.
func (p *picture) fill(i ink, path, attrs string) {
	fmt.Fprintf(p, `<path class="f-%s" d="%s"%s/>`+"\n", i.class, path, attrs)
}

// Anchors of a text.
const (
	atStart  = ""
	atMiddle = ` text-anchor="middle"`
	atEnd    = ` text-anchor="end"`
)

// text writes a line of text whose baseline is at y.
func (p *picture) text(i ink, size, x, y float64, anchor, s string) {
	fmt.Fprintf(p, `<text class="f-%s" x="%s" y="%s" font-size="%s"%s>%s</text>`+"\n", i.class, num(x), num(y), num(size), anchor, html.EscapeString(s))
}

// Sizes of text.
const (
	textSize = 10.0
	tickSize = 9.5
)

// textWidth estimates the width of a text in Arial or its like, which is what
// the page asks for: some more than most texts need.
func textWidth(s string, size float64) float64 {
	return 0.55 * size * float64(utf8.RuneCountInString(s))
}

// mark draws a subject's mark about a point, about 2r wide.
func (p *picture) mark(m mark, x, y, r float64) {
	if m.shape == cross {
		p.stroke(m.ink, r*0.6, at('M', x-r, y-r)+at('L', x+r, y+r)+at('M', x-r, y+r)+at('L', x+r, y-r), "")
		return
	}
	// A rim of paper sets it off from what is behind it.
	const rim = `stroke-width="2.4" paint-order="stroke"`
	if m.shape == disc {
		fmt.Fprintf(p, `<circle class="f-%s s-paper" cx="%s" cy="%s" r="%s" %s/>`+"\n", m.ink.class, num(x), num(y), num(r), rim)
		return
	}
	var path string
	for i, corner := range corners[m.shape] {
		path += at("ML"[min(i, 1)], x+corner[0]*r, y+corner[1]*r)
	}
	fmt.Fprintf(p, `<path class="f-%s s-paper" d="%sZ" %s/>`+"\n", m.ink.class, path, rim)
}

// shape is the shape of a subject's marks.
type shape int

const (
	disc shape = iota
	square
	triangle
	flipped // triangle
	diamond
	cross
)

// corners are those of a shape about (0, 0).
var corners = map[shape][][2]float64{
	square:   {{-.9, -.9}, {.9, -.9}, {.9, .9}, {-.9, .9}},
	triangle: {{-1.1, .8}, {1.1, .8}, {0, -1.1}},
	flipped:  {{-1.1, -.8}, {1.1, -.8}, {0, 1.1}},
	diamond:  {{-1.2, 0}, {0, -1.2}, {1.2, 0}, {0, 1.2}},
}

// legend draws entries in lines from y on, as many in each as fit, each with
// what draw draws to the left of its text. It returns the height of the lines.
func (p *picture) legend(y float64, entries []string, draw func(i int, x, y float64)) float64 {
	const mark, gap, height = 12, 10, 14
	x, top := 0.0, y
	for i, text := range entries {
		w := mark + textWidth(text, textSize)
		if x > 0 && x+w > chartWidth {
			x, y = 0, y+height
		}
		draw(i, x+5, y+6)
		p.text(inkText, textSize, x+mark, y+9.5, atStart, text)
		x += w + gap
	}
	return y + height - top
}

// frame is a plot: its axes, and where they are.
type frame struct {
	x, y                     axis
	left, top, right, bottom float64
}

// plotUnder places a plot below y in a chart of a height, with room for the
// axes' words.
func plotUnder(y, height float64, horizontal, vertical axis) frame {
	left := 0.0
	for _, v := range vertical.marks() {
		left = max(left, textWidth(vertical.format(v), tickSize))
	}
	return frame{horizontal, vertical, left + 8, y, chartWidth - 20, height - axisHeight}
}

func (f frame) atX(v float64) float64 { return f.x.place(v, f.left, f.right) }
func (f frame) atY(v float64) float64 { return f.y.place(v, f.bottom, f.top) }

// axisHeight is the height of a horizontal axis with its words.
const axisHeight = 30

// horizontal draws the horizontal axis, and what it is of.
func (f frame) horizontal(p *picture, label string) {
	p.line(inkMuted, 0.6, f.left, f.bottom, f.right, f.bottom, "")
	for _, v := range f.x.marks() {
		x := f.atX(v)
		p.line(inkMuted, 0.6, x, f.bottom, x, f.bottom+3, "")
		p.text(inkMuted, tickSize, x, f.bottom+13, atMiddle, f.x.format(v))
	}
	p.text(inkMuted, tickSize, chartWidth/2, f.bottom+26, atMiddle, label)
}

// vertical draws the vertical axis.
func (f frame) vertical(p *picture) {
	p.line(inkMuted, 0.6, f.left, f.top, f.left, f.bottom, "")
	for _, v := range f.y.marks() {
		y := f.atY(v)
		p.line(inkMuted, 0.6, f.left-3, y, f.left, y, "")
		p.text(inkMuted, tickSize, f.left-5, y+3.5, atEnd, f.y.format(v))
	}
}

// at is a step of a path.
func at(verb byte, x, y float64) string { return string(verb) + num(x) + " " + num(y) }

// area is the path of a rectangle.
func area(left, top, right, bottom float64) string {
	return at('M', left, top) + "H" + num(right) + "V" + num(bottom) + "H" + num(left) + "Z"
}

// opacity is an attribute.
func opacity(v float64) string { return ` opacity="` + num(v) + `"` }

// num writes a number, to a hundredth.
func num(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100+0, 'f', -1, 64) // -0 + 0 is 0
}

// label is a text for a chart: of n characters, in one line.
func label(s string, n int) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, cut(s, n))
}
