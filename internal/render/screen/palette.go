package screen

import (
	"fmt"
	"strings"

	"offmap/internal/measure/exposuremap"
)

// Profile is the set of colours that a terminal has.
type Profile int

// The profiles. With 256 colours and more the map is drawn in the halves of
// characters, otherwise in letters, which without colours carry it alone.
const (
	None Profile = iota
	Colours16
	Colours256
	TrueColour
)

// DetectProfile finds the terminal's profile from the environment: NO_COLOR
// (no-color.org), COLORTERM, TERM, and the locale, since the halves of characters
// take UTF-8.
func DetectProfile(getenv func(string) string) Profile {
	term, colour := getenv("TERM"), getenv("COLORTERM")
	locale := getenv("LC_ALL")
	for _, name := range []string{"LC_CTYPE", "LANG"} {
		if locale == "" {
			locale = getenv(name)
		}
	}
	locale = strings.ReplaceAll(strings.ToLower(locale), "-", "")
	switch {
	case getenv("NO_COLOR") != "", strings.HasSuffix(term, "-m"), strings.HasSuffix(term, "-mono"):
		return None
	case !strings.HasSuffix(locale, ".utf8"):
		return Colours16
	case colour == "truecolor", colour == "24bit", strings.HasSuffix(term, "-direct"):
		return TrueColour
	case strings.Contains(term, "256color"):
		return Colours256
	}
	return Colours16
}

// rgb is a colour of 8 bits a channel.
type rgb [3]uint8

// The colours are apart in lightness too, in the order of how much the host
// kernel sees.
var (
	dark     = rgb{48, 53, 64}    // untouched
	blue     = rgb{32, 105, 160}  // hidden
	amber    = rgb{245, 166, 35}  // in the window
	red      = rgb{235, 87, 87}   // ordinary
	grey     = rgb{140, 146, 156} // what isn't as important
	bright   = rgb{236, 239, 244}
	black    = rgb{1, 1, 1}
	noColour = rgb{} // the terminal's own
)

// mix is a with the share of b, from 0 to 1, in it.
func mix(a, b rgb, share float64) (c rgb) {
	for i := range c {
		c[i] = uint8(float64(a[i]) + share*(float64(b[i])-float64(a[i])) + .5)
	}
	return c
}

// style is how a character looks. The zero style is the terminal's own.
type style struct{ fg, bg rgb }

// sgr is the sequence that switches to a style (ECMA-48 §8.3.117).
func (p Profile) sgr(s style) string {
	if p == None {
		return ""
	}
	code := "\x1b[0"
	if s.fg != noColour {
		code += ";" + p.colour(s.fg, 30)
	}
	if s.bg != noColour {
		code += ";" + p.colour(s.bg, 40)
	}
	return code + "m"
}

// colour is c as a parameter of SGR, from base 30 for the character or 40 for
// what is behind it.
func (p Profile) colour(c rgb, base int) string {
	switch p {
	case TrueColour:
		return fmt.Sprintf("%d;2;%d;%d;%d", base+8, c[0], c[1], c[2])
	case Colours256:
		return fmt.Sprintf("%d;5;%d", base+8, nearest256(c))
	}
	return fmt.Sprint(base + nearest16(c))
}

// nearest256 is the index of the closest colour in xterm's cube of 6×6×6 levels
// or its 24 greys.
func nearest256(c rgb) int {
	level := func(v uint8) int {
		switch {
		case v < 48:
			return 0
		case v < 115:
			return 1
		}
		return (int(v) - 35) / 40
	}
	value := func(l int) int { return min(l, 1)*55 + l*40 }
	distance := func(r, g, b int) int {
		r, g, b = r-int(c[0]), g-int(c[1]), b-int(c[2])
		return r*r + g*g + b*b
	}
	r, g, b := level(c[0]), level(c[1]), level(c[2])
	mean := (int(c[0]) + int(c[1]) + int(c[2])) / 3
	step := min(max((mean-3)/10, 0), 23)
	if v := 8 + 10*step; distance(v, v, v) < distance(value(r), value(g), value(b)) {
		return 232 + step
	}
	return 16 + 36*r + 6*g + b
}

// nearest16 is the number of the closest of the eight colours, to which 30 or 40
// is added; 60 more are the bright ones.
func nearest16(c rgb) int {
	switch {
	case c == dark, c == grey:
		return 60 // bright black
	case c == bright:
		return 67 // bright white
	case c == black:
		return 0
	}
	most := max(c[0], c[1], c[2])
	n := 0
	for i, v := range c {
		if 3*int(v) > 2*int(most) {
			n |= 1 << i // red, green and blue are bits 0 to 2
		}
	}
	return n
}

// colourOf is a cell's colour, mixed by its shares. One page of it is
// enough to be seen.
func (p Profile) colourOf(c exposuremap.Cell, exposed byte) rgb {
	colour := dark
	if c.Hidden() > 0 {
		colour = mix(colour, blue, least+(1-least)*p.share(c.Hidden()))
	}
	if c.Exposed() > 0 {
		colour = mix(colour, hot(exposed), least+(1-least)*p.share(c.Exposed()))
	}
	return colour
}

// least is how much of a cell's colour one page in a state is, at least.
const least = .28

// hot is the colour of what is exposed.
func hot(letter byte) rgb {
	if letter == OrdinaryLetter {
		return red
	}
	return amber
}

// look returns the letter and the style of a cell: the letter of its most exposed
// state, on the colour of most of its pages. Letters show what colours do.
func (p Profile) look(c exposuremap.Cell, exposed byte) (letter byte, s style) {
	hidden, bare := p.share(c.Hidden()), p.share(c.Exposed())
	s.bg = mix(dark, blue, hidden)
	letter, s.fg = UntouchedLetter, bright
	if c.Hidden() > 0 {
		letter = letterFor(HiddenLetter, c.Hidden())
	}
	if c.Exposed() > 0 {
		letter, s.fg = letterFor(exposed, c.Exposed()), hot(exposed)
		if bare >= .5 {
			s.bg, s.fg = s.fg, black
		}
	}
	return letter, s
}

// share is a part of a cell as a part of a colour. Few colours have no mixtures.
func (p Profile) share(fifteenths uint8) float64 {
	switch share := float64(fifteenths) / exposuremap.Full; {
	case p > Colours16:
		return share
	case share >= .5:
		return 1
	}
	return 0
}

// letterFor is the capital where the state is half of a cell or more.
func letterFor(letter byte, share uint8) byte {
	if share > exposuremap.Full/2 {
		return letter - 'a' + 'A'
	}
	return letter
}
