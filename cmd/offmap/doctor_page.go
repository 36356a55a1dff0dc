package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"offmap/internal/measure/probe"
	"offmap/memory"
)

// doctorPage writes what doctor found for people: what works first, then what
// is wrong, then all else. On a terminal it is wrapped and coloured; a command
// to paste stays on its line.
type doctorPage struct {
	w     io.Writer
	buf   bytes.Buffer
	width int // of a line; 0: as long as it gets
	color bool
}

func newDoctorPage(f *os.File) *doctorPage {
	p := &doctorPage{w: f}
	if term.IsTerminal(int(f.Fd())) {
		if cols, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = cols
		}
		p.color = os.Getenv("NO_COLOR") == ""
	}
	return p
}

// Columns, in characters.
const (
	statusColumn = 6
	nameColumn   = 14
	pairColumn   = 21 // backend and attach
	// leastText is the narrowest column that text is wrapped to.
	leastText = 24
)

// colors are the SGR codes of the words that lines start with.
var colors = map[string]string{
	string(probe.OK): "32", string(probe.Warn): "33", string(probe.Fail): "31", string(probe.Skip): "2",
}

func (p *doctorPage) print(h probe.Host, r probe.Report, wanted memory.Backend) error {
	fmt.Fprintf(&p.buf, "Linux %s, %d CPUs, KVM %s (%s)\n", h.Kernel, h.CPUs, h.KVM, h.Accel)
	p.heading("Guest RAM in %s memory", wanted)
	p.trials(r.Backends, func(t probe.Trial) bool { return t.Backend == wanted })
	p.heading("in other memory")
	p.trials(r.Backends, func(t probe.Trial) bool { return t.Backend != wanted })
	p.checks("in the way", r.Checks, probe.Fail)
	p.checks("could be better", r.Checks, probe.Warn)
	p.checks("fine", r.Checks, probe.OK)
	p.checks("not here", r.Checks, probe.Skip)
	_, err := p.buf.WriteTo(p.w)
	return err
}

func (p *doctorPage) heading(format string, args ...any) {
	fmt.Fprintf(&p.buf, "\n"+format+":\n", args...)
}

func (p *doctorPage) trials(list []probe.Trial, show func(probe.Trial) bool) {
	for _, t := range list {
		if !show(t) {
			continue
		}
		status, text := probe.OK, "works"
		if !t.Works {
			status, text = probe.Fail, "doesn't work"
			if t.Errno != "" {
				text += " (" + t.Errno + ")"
			}
			if t.Needs != "" {
				text += ", needs " + t.Needs
			}
			text += ": " + oneLine(t.Reason)
		}
		p.line(status, fmt.Sprintf("  %-12s%-7s", t.Backend, t.Attach), pairColumn, text)
	}
}

func (p *doctorPage) checks(title string, list []probe.Check, status probe.Status) {
	first := true
	for _, c := range list {
		if c.Status != status {
			continue
		}
		if first {
			p.heading("%s", title)
			first = false
		}
		p.line(status, fmt.Sprintf("%-*s%-*s", statusColumn, status, nameColumn, c.Name), statusColumn+nameColumn, oneLine(c.Detail))
		if c.Fix != "" {
			fmt.Fprintf(&p.buf, "%*sfix: %s\n", statusColumn+nameColumn, "", c.Fix)
		}
	}
}

// line writes a label of indent characters and a text beside it.
func (p *doctorPage) line(status probe.Status, label string, indent int, text string) {
	if p.color {
		label = "\x1b[" + colors[string(status)] + "m" + label + "\x1b[0m"
	}
	p.buf.WriteString(label)
	for i, l := range wrap(text, p.width-indent) {
		if i > 0 {
			fmt.Fprintf(&p.buf, "%*s", indent, "")
		}
		p.buf.WriteString(l + "\n")
	}
}

// wrap breaks a text at spaces into lines of up to width characters; a longer
// word has a line of its own. A terminal too narrow for that wraps by itself.
func wrap(text string, width int) []string {
	if width < leastText {
		return []string{text}
	}
	var lines []string
	var line string
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

// oneLine is a text without its line breaks.
func oneLine(text string) string { return printable(strings.Join(strings.Fields(text), " ")) }
