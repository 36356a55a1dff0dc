package table

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"offmap/internal/process/terminal"
)

// Text writes tables for a terminal.
type Text struct {
	Width  int    // of a line, in characters; 0: as long as it gets
	Color  bool   // mark the kinds of cells
	Indent string // before the rows of a group with a title
	More   bool   // write what there is to say beside cells below the wide column
}

// leastText is the narrowest column that text is wrapped to.
const leastText = 24

// gap is between two columns.
const gap = "  "

// Write returns the table. One without a wide column that doesn't fit in the
// width is written in pieces, one below the other, each with the first column.
func (o Text) Write(t *Table) string {
	var narrow, wide []int
	var widths []int
	for i, w := range o.widths(t) {
		widths = append(widths, w)
		if t.column(i).Wide {
			wide = append(wide, i)
		} else {
			narrow = append(narrow, i)
		}
	}
	var b strings.Builder
	if wide != nil || narrow == nil {
		o.piece(&b, t, append(narrow, wide...), widths)
	} else {
		for rest := narrow[1:]; ; {
			n := o.fit(narrow[0], rest, widths)
			o.piece(&b, t, append(narrow[:1:1], rest[:n]...), widths)
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
			b.WriteString("\n")
		}
	}
	for _, n := range t.notes() {
		fmt.Fprintf(&b, "\n%s\n", Beside(n, 0, o.Width))
	}
	return b.String()
}

// widths are the widths of the columns.
func (o Text) widths(t *Table) (list []int) {
	add := func(row []Cell, indent int) {
		for i, c := range row {
			if i == len(list) {
				list = append(list, 0)
			}
			list[i] = max(list[i], utf8.RuneCountInString(c.text())+indent)
			indent = 0
		}
	}
	for _, row := range t.Head {
		add(row, 0)
	}
	for _, g := range t.Groups {
		for _, row := range g.Rows {
			add(row, len(o.indent(g)))
		}
	}
	return list
}

func (o Text) indent(g Group) string {
	if g.Title == "" {
		return ""
	}
	return o.Indent
}

// fit is how many columns stand beside the first one; at least one.
func (o Text) fit(first int, rest, widths []int) int {
	left := o.Width - widths[first]
	for n, c := range rest {
		if left -= len(gap) + widths[c]; left < 0 && n > 0 && o.Width > 0 {
			return n
		}
	}
	return len(rest)
}

// piece writes some columns. Rows that are empty in all but the first of them
// are left out, if there are others.
func (o Text) piece(b *strings.Builder, t *Table, columns, widths []int) {
	write := func(rows [][]Cell, indent string) {
		for _, row := range rows {
			if len(columns) == 1 || slices.ContainsFunc(columns[1:], func(c int) bool { return c < len(row) && row[c].text() != "" }) {
				o.row(b, t, row, columns, widths, indent)
			}
		}
	}
	write(t.Head, "")
	for i, g := range t.Groups {
		if g.Title != "" {
			if i > 0 || len(t.Head) > 0 {
				b.WriteString("\n")
			}
			b.WriteString(Beside(g.Title, 0, o.Width) + "\n")
		}
		write(g.Rows, o.indent(g))
	}
}

// row writes a row, and what there is to say beside its cells.
func (o Text) row(b *strings.Builder, t *Table, row []Cell, columns, widths []int, indent string) {
	var line string
	var more []Term
	behind := 0 // characters so far
	for _, c := range columns {
		if c >= len(row) {
			break
		}
		text := indent + row[c].text()
		indent = ""
		if t.column(c).Wide { // the last
			line += Beside(text, behind, o.Width)
			break
		}
		pad := strings.Repeat(" ", widths[c]-utf8.RuneCountInString(text))
		if t.column(c).Right {
			text = pad + text
		} else {
			text += pad
		}
		behind += widths[c] + len(gap)
		line += o.paint(text, row[c].Kind) + gap
		more = append(more, row[c].More...)
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	if !o.More {
		return
	}
	for _, m := range more {
		text := m.Name + ": " + m.Text
		if !m.Command {
			text = Beside(m.Text, behind, o.Width)
		}
		fmt.Fprintf(b, "%*s%s\n", behind, "", text)
	}
}

// text is the cell on one line.
func (c Cell) text() string {
	text := c.Text
	if c.Value != "" {
		text += " " + c.Value
	}
	if name, ok := strings.CutPrefix(c.Link, "#"); ok && name != text {
		text += " (" + name + ")"
	}
	// Spaces at the start are an indent.
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	return indent + OneLine(text)
}

// sgr are the codes of the kinds (ECMA-48, Select Graphic Rendition).
var sgr = map[Kind]string{Good: "32", Warn: "33", Bad: "31", Muted: "2"}

func (o Text) paint(text string, k Kind) string {
	if !o.Color || k == Plain {
		return text
	}
	return "\x1b[" + sgr[k] + "m" + text + "\x1b[0m"
}

// notes are the table's notes, those of the same text in one.
func (t *Table) notes() (list []string) {
	type key struct{ columns, text string }
	var order []key
	rows := map[key][]string{}
	for _, n := range t.Notes {
		k := key{n.of(), n.Text}
		if rows[k] == nil {
			order = append(order, k)
		}
		rows[k] = append(rows[k], n.Row)
	}
	for _, k := range order {
		list = append(list, OneLine(strings.Join(rows[k], ", ")+k.columns+": "+k.text))
	}
	return list
}

// Beside wraps a text that stands behind indent characters, for lines of width
// characters.
func Beside(text string, indent, width int) string {
	return strings.Join(wrap(OneLine(text), width-indent), fmt.Sprintf("\n%*s", indent, ""))
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

// OneLine returns a text without its line breaks, and without what a terminal acts on.
func OneLine(text string) string {
	return terminal.Printable(strings.Join(strings.Fields(text), " "))
}
