package report

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	stdfont "golang.org/x/image/font"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
)

// svgCanvas draws SVG that has classes in place of colours, so that it follows
// the theme of the page it is in, and no style attributes, which the page's
// Content-Security-Policy refuses. Package vgsvg can do neither.
//
// It implements vg.Canvas. Text is laid out for the plots' font, Liberation
// Sans, which has the widths of Arial and Helvetica.
type svgCanvas struct {
	body  bytes.Buffer
	w, h  vg.Length
	state []svgState
}

type svgState struct {
	ink    ink
	width  vg.Length
	dashes []vg.Length
	groups int // that were opened since Push
}

func newSVG(w, h vg.Length) *svgCanvas {
	return &svgCanvas{w: w, h: h, state: []svgState{{ink: inkText, width: 1}}}
}

func (c *svgCanvas) top() *svgState { return &c.state[len(c.state)-1] }

// Size implements vg.CanvasSizer.
func (c *svgCanvas) Size() (w, h vg.Length) { return c.w, c.h }

func (c *svgCanvas) SetLineWidth(w vg.Length)               { c.top().width = w }
func (c *svgCanvas) SetLineDash(d []vg.Length, _ vg.Length) { c.top().dashes = d }

// SetColor takes inks. Another colour is one that a plot has of its own, and is
// shown as text.
func (c *svgCanvas) SetColor(col color.Color) {
	i, ok := col.(ink)
	if !ok {
		i = inkText
	}
	c.top().ink = i
}

func (c *svgCanvas) group(format string, args ...any) {
	fmt.Fprintf(&c.body, `<g transform="`+format+`">`, args...)
	c.top().groups++
}

func (c *svgCanvas) Rotate(rad float64)    { c.group("rotate(%s)", coord(rad*180/math.Pi)) }
func (c *svgCanvas) Translate(pt vg.Point) { c.group("translate(%s)", pair(pt)) }
func (c *svgCanvas) Scale(x, y float64)    { c.group("scale(%s %s)", coord(x), coord(y)) }

func (c *svgCanvas) Push() {
	s := *c.top()
	s.groups = 0
	c.state = append(c.state, s)
}

func (c *svgCanvas) Pop() {
	c.body.WriteString(strings.Repeat("</g>", c.top().groups))
	c.state = c.state[:len(c.state)-1]
}

func (c *svgCanvas) Stroke(p vg.Path) {
	s := c.top()
	if s.width <= 0 {
		return
	}
	fmt.Fprintf(&c.body, `<path class="s-%s" d="%s" fill="none" stroke-width="%s"`, s.ink.class, pathData(p), coord(float64(s.width)))
	if s.ink.alpha != 0 {
		fmt.Fprintf(&c.body, ` stroke-opacity="%s"`, opacity(s.ink))
	}
	if len(s.dashes) > 0 {
		var d []string
		for _, l := range s.dashes {
			d = append(d, coord(float64(l)))
		}
		fmt.Fprintf(&c.body, ` stroke-dasharray="%s"`, strings.Join(d, " "))
	}
	c.body.WriteString("/>\n")
}

func (c *svgCanvas) Fill(p vg.Path) {
	s := c.top()
	fmt.Fprintf(&c.body, `<path class="f-%s" d="%s"`, s.ink.class, pathData(p))
	if s.ink.alpha != 0 {
		fmt.Fprintf(&c.body, ` fill-opacity="%s"`, opacity(s.ink))
	}
	c.body.WriteString("/>\n")
}

func (c *svgCanvas) FillString(f font.Face, pt vg.Point, text string) {
	fmt.Fprintf(&c.body, `<text class="f-%s" transform="scale(1 -1)" x="%s" y="%s" font-size="%s"`,
		c.top().ink.class, coord(float64(pt.X)), coord(float64(-pt.Y)), coord(float64(f.Font.Size)))
	if f.Font.Weight >= stdfont.WeightSemiBold {
		c.body.WriteString(` font-weight="bold"`)
	}
	// A reader's font may be wider than the one that the layout was made for.
	if n := utf8.RuneCountInString(text); n > 3 {
		fmt.Fprintf(&c.body, ` textLength="%s" lengthAdjust="spacingAndGlyphs"`, coord(float64(f.Width(text))))
	}
	fmt.Fprintf(&c.body, ">%s</text>\n", html.EscapeString(text))
}

// DrawImage draws pixels, which keep their colours in every theme.
func (c *svgCanvas) DrawImage(r vg.Rectangle, img image.Image) {
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil { // only of an image without size
		return
	}
	size := r.Size()
	fmt.Fprintf(&c.body, `<image transform="scale(1 -1)" x="%s" y="%s" width="%s" height="%s" preserveAspectRatio="none" href="data:image/png;base64,%s"/>`+"\n",
		coord(float64(r.Min.X)), coord(float64(-r.Max.Y)), coord(float64(size.X)), coord(float64(size.Y)), base64.StdEncoding.EncodeToString(b.Bytes()))
}

// svg is the whole picture, with a text for those who can't see it.
func (c *svgCanvas) svg(alt string) string {
	return fmt.Sprintf(`<svg role="img" aria-label="%s" viewBox="0 0 %s %s" xmlns="http://www.w3.org/2000/svg"><g transform="matrix(1 0 0 -1 0 %[3]s)">`+"\n%s%s</g></svg>",
		html.EscapeString(alt), coord(float64(c.w)), coord(float64(c.h)), c.body.String(), strings.Repeat("</g>", c.state[0].groups))
}

func opacity(i ink) string { return strconv.FormatFloat(float64(i.alpha)/255, 'g', 2, 64) }

// coord writes a length in points, to a hundredth.
func coord(v float64) string {
	s := strconv.FormatFloat(v, 'f', 2, 64)
	s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	if s == "-0" {
		return "0"
	}
	return s
}

func pair(p vg.Point) string { return coord(float64(p.X)) + " " + coord(float64(p.Y)) }

// pathData is the path in SVG's language.
func pathData(p vg.Path) string {
	var b strings.Builder
	var lastX, lastY string // of the point before, to leave out where it stays
	for _, e := range p {
		x, y := coord(float64(e.Pos.X)), coord(float64(e.Pos.Y))
		switch {
		case e.Type == vg.MoveComp:
			b.WriteString("M" + pair(e.Pos))
		case e.Type == vg.LineComp && x == lastX:
			b.WriteString("V" + y)
		case e.Type == vg.LineComp && y == lastY:
			b.WriteString("H" + x)
		case e.Type == vg.LineComp:
			b.WriteString("L" + pair(e.Pos))
		}
		lastX, lastY = x, y
		switch e.Type {
		case vg.ArcComp:
			arc(&b, e)
		case vg.CurveComp:
			b.WriteString([]string{"L", "Q", "C"}[min(len(e.Control), 2)])
			for _, q := range e.Control {
				b.WriteString(pair(q) + " ")
			}
			b.WriteString(pair(e.Pos))
		case vg.CloseComp:
			b.WriteString("Z")
		}
	}
	return b.String()
}

// arc draws an arc in two halves, since SVG can't draw a full circle in one.
func arc(b *strings.Builder, e vg.PathComp) {
	at := func(angle float64) string {
		sin, cos := math.Sincos(angle)
		r := float64(e.Radius)
		return pair(vg.Point{X: e.Pos.X + vg.Length(r*cos), Y: e.Pos.Y + vg.Length(r*sin)})
	}
	verb := "L"
	if b.Len() == 0 {
		verb = "M"
	}
	sweep := 0
	if e.Angle > 0 {
		sweep = 1
	}
	r := coord(float64(e.Radius))
	fmt.Fprintf(b, "%s%s", verb, at(e.Start))
	for _, part := range []float64{0.5, 1} {
		fmt.Fprintf(b, "A%s %s 0 0 %d %s", r, r, sweep, at(e.Start+part*e.Angle))
	}
}
