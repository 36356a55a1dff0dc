// Package screen shows on a terminal where a running guest's pages are.
package screen

import (
	"fmt"
	"strings"
	"time"

	"offmap/internal/measure/exposuremap"
)

// Letters of the states on the map; capitals where it is half of a cell or more.
const (
	UntouchedLetter = '.'
	HiddenLetter    = 'h'
	InWindowLetter  = 'w'
	OrdinaryLetter  = 'o'
)

// Status is what a frame shows.
type Status struct {
	Title  string // what guest, in which memory
	Memory uint64 // bytes
	Window uint64 // the bound in bytes, 0 without one
	// Ordinary says that exposed pages are ordinary memory, and not copies in a
	// window. Hides says that there can be hidden pages.
	Ordinary, Hides bool

	Sample exposuremap.Sample
	// Faults and exits a second.
	Faults, Exits float64
	Transfers     []Transfer // empty: the guest has nothing to transfer to
	Console       []string   // the guest's last lines, plain text
	Hint          string     // which keys there are
}

// Transfer is how fast a guest reads from devices of one kind, and writes to them.
type Transfer struct {
	Name          string  // of the devices: "disks"
	Read, Written float64 // bytes a second
}

// Smallest terminal that a map fits on, in characters.
const (
	minWidth  = 40
	minHeight = 8
)

// Draw makes a frame of h lines of at most w characters.
func Draw(s Status, w, h int, p Profile) []string {
	d := drawing{Status: s, width: w, profile: p}
	if w < minWidth || h < minHeight {
		d.line(text{bright, fmt.Sprintf("%s of %s exposed", mib(s.Sample.Exposed()), mib(s.Memory))})
		d.line(text{grey, fmt.Sprintf("map: %dx%d or more", minWidth, minHeight)})
		return d.fill(h)
	}
	states := d.states()
	// The console gets up to a quarter of what the map could have.
	spare := h - 1 - len(states) - 1
	if len(s.Transfers) > 0 {
		spare--
	}
	console := min(max(0, (spare-4)/4), 12, max(1, len(s.Console)))
	if console > 0 {
		spare -= console + 1
	}
	d.title()
	d.cells(max(1, spare))
	for _, st := range states {
		d.legend(st)
	}
	d.counters()
	d.transfers()
	if console > 0 {
		d.console(console)
	}
	return d.fill(h)
}

// drawing is a frame in the making.
type drawing struct {
	Status
	width   int
	profile Profile
	lines   []string
}

// text is a piece of a line in a colour.
type text struct {
	colour rgb
	s      string
}

// line adds a line of pieces, cut or filled up to the width.
func (d *drawing) line(pieces ...text) {
	var b strings.Builder
	left := d.width
	for _, t := range pieces {
		if n := len(t.s); n > left {
			t.s = t.s[:left]
		}
		left -= len(t.s)
		b.WriteString(d.profile.sgr(style{fg: t.colour}) + t.s)
	}
	d.add(b.String(), left)
}

// add adds a line that lacks so many characters of the width.
func (d *drawing) add(line string, lacks int) {
	d.lines = append(d.lines, line+d.profile.sgr(style{})+strings.Repeat(" ", lacks))
}

// fill makes the frame h lines long.
func (d *drawing) fill(h int) []string {
	for len(d.lines) < h {
		d.add("", d.width)
	}
	return d.lines[:h]
}

// between are two pieces at the ends of a line.
func (d *drawing) between(left, right text) {
	gap := max(1, d.width-len(left.s)-len(right.s))
	if len(left.s)+gap+len(right.s) > d.width {
		d.line(left)
		return
	}
	d.line(left, text{s: strings.Repeat(" ", gap)}, right)
}

func (d *drawing) title() {
	d.between(text{bright, d.Title}, text{grey, clock(d.Sample.MS)})
}

// cells draws the map in so many lines, in rows from the start of guest RAM. A
// terminal with enough colours shows two rows a line, in the halves of its
// characters; the others show letters.
func (d *drawing) cells(lines int) {
	exposed := byte(InWindowLetter)
	if d.Ordinary {
		exposed = OrdinaryLetter
	}
	halves := d.profile > Colours16
	rows := lines
	if halves {
		rows *= 2
	}
	grid := exposuremap.Scale(d.Sample.Map, rows*d.width)
	for range lines {
		var b strings.Builder
		var last style
		for x := range d.width {
			var s style
			char := "▀"
			if halves {
				s = style{d.profile.colourOf(grid[x], exposed), d.profile.colourOf(grid[d.width+x], exposed)}
			} else {
				var letter byte
				letter, s = d.profile.look(grid[x], exposed)
				char = string(letter)
			}
			if s != last {
				b.WriteString(d.profile.sgr(s))
				last = s
			}
			b.WriteString(char)
		}
		grid = grid[d.width*rows/lines:]
		d.add(b.String(), 0)
	}
}

// state is a line of the legend.
type state struct {
	letter byte
	name   string
	bytes  uint64
	like   exposuremap.Cell // a cell that is all of it
	note   string
}

// states returns the states that pages of this guest can have.
func (d *drawing) states() []state {
	s := d.Sample
	list := []state{{UntouchedLetter, "untouched", s.Untouched, 0, "no memory yet"}}
	if d.Hides {
		list = append(list, state{HiddenLetter, "hidden", s.Hidden, exposuremap.Full << 4, "off the direct map"})
	}
	const open = "in the direct map"
	switch {
	case d.Ordinary:
		list = append(list, state{OrdinaryLetter, "ordinary", s.Ordinary, exposuremap.Full, open})
	case d.Window > 0:
		list = append(list, state{InWindowLetter, "in the window", s.InWindow, exposuremap.Full, open})
	}
	return list
}

// noteWidth is that of the longest note of a state, and a space on each side.
const noteWidth = 20

// legend says what a letter and its colour mean, and how much of RAM it is.
func (d *drawing) legend(st state) {
	_, s := d.profile.look(st.like, st.letter)
	share := float64(st.bytes) / float64(d.Memory)
	swatch := fmt.Sprintf("%s %c %s", d.profile.sgr(s), st.letter, d.profile.sgr(style{}))
	head := fmt.Sprintf(" %-14s%11s %6.2f %%  ", st.name, mib(st.bytes), share*100)
	left := d.width - 3 - len(head)
	bar, note := "", ""
	if left >= noteWidth {
		left -= noteWidth
		note = fmt.Sprintf(" %-*s", noteWidth-1, st.note)
	}
	if room := min(left, 50); room >= 10 {
		left -= room
		bar = d.bar(share, room, s)
	}
	d.add(swatch+d.profile.sgr(style{fg: bright})+head+bar+d.profile.sgr(style{fg: grey})+note, left)
}

// bar draws a share as a bar in a field of width characters. A share above 0 has at
// least one.
func (d *drawing) bar(share float64, width int, s style) string {
	n := int(share * float64(width))
	if share > 0 {
		n = max(1, n)
	}
	fill := " "
	if d.profile == None {
		fill = "#"
	}
	return d.profile.sgr(style{bg: s.bg}) + strings.Repeat(fill, n) +
		d.profile.sgr(style{}) + strings.Repeat(" ", width-n)
}

func (d *drawing) counters() {
	s := d.Sample
	list := []text{
		{bright, fmt.Sprintf("exposed %s", mib(s.Exposed()))},
		{grey, fmt.Sprintf("  peak %s (%.2f %%)", mib(s.ExposedPeak), 100*float64(s.ExposedPeak)/float64(d.Memory))},
	}
	if d.Window > 0 {
		list = append(list, text{grey, fmt.Sprintf("  faults %s/s", count(d.Faults))})
	}
	d.line(append(list, text{grey, fmt.Sprintf("  exits %s/s", count(d.Exits))})...)
}

// transfers draws a line if there is something to transfer to.
func (d *drawing) transfers() {
	var list []text
	for i, t := range d.Transfers {
		gap := "  "
		if i == 0 {
			gap = ""
		}
		list = append(list, text{grey, fmt.Sprintf("%s%s: read %s/s, written %s/s", gap, t.Name, mib(uint64(t.Read)), mib(uint64(t.Written)))})
	}
	if list != nil {
		d.line(list...)
	}
}

// console draws a rule and the guest's last lines.
func (d *drawing) console(lines int) {
	rule := "-- console " + strings.Repeat("-", d.width)
	hint := " " + d.Hint
	if n := d.width - len(hint); d.Hint != "" && n >= len("-- console --") {
		rule = rule[:n] + hint
	}
	d.line(text{grey, rule})
	show := d.Console
	if len(show) > lines {
		show = show[len(show)-lines:]
	}
	for _, l := range show {
		d.line(text{bright, l})
	}
}

// mib is a size for people, in MiB where that says enough.
func mib(n uint64) string {
	switch {
	case n == 0:
		return "0"
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// count is a rate of at most four digits and a unit.
func count(v float64) string {
	switch {
	case v >= 1e7:
		return fmt.Sprintf("%.0fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	}
	return fmt.Sprintf("%.0f", v)
}

// clock is a time since the start.
func clock(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond)).Truncate(100 * time.Millisecond)
	h, m, s := int(d.Hours()), int(d.Minutes())%60, d.Seconds()-60*float64(int(d.Minutes()))
	if h > 0 {
		return fmt.Sprintf("%d:%02d:%02.0f", h, m, s)
	}
	return fmt.Sprintf("%02d:%04.1f", m, s)
}
