package table

import (
	"fmt"
	"strings"
)

// Markdown returns the table in GitHub's Markdown.
func (t *Table) Markdown() string {
	var b strings.Builder
	width := 0
	line := func(row []Cell) {
		b.WriteString("|")
		for _, c := range row {
			fmt.Fprintf(&b, " %s |", c.markdown())
		}
		b.WriteString(strings.Repeat("  |", max(0, width-len(row))) + "\n")
	}
	for i, row := range t.Head {
		line(row)
		if i > 0 {
			continue
		}
		width = len(row)
		b.WriteString("|")
		for k := range row {
			b.WriteString(map[bool]string{false: "---|", true: "---:|"}[t.column(k).Right])
		}
		b.WriteString("\n")
	}
	for _, g := range t.Groups {
		if g.Title != "" {
			line([]Cell{{Text: "*" + g.Title + "*"}})
		}
		for _, row := range g.Rows {
			line(row)
		}
	}
	for i, n := range t.Notes {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "- `%s`%s: %s\n", n.Row, n.of(), escape(n.Text))
	}
	return b.String()
}

func (c Cell) markdown() string {
	text := escape(c.Text)
	if c.Strong {
		text = "**" + text + "**"
	}
	if c.Link != "" {
		text = "[" + text + "](" + c.Link + ")"
	}
	switch {
	case c.Value == "":
	case c.Code:
		text += " `" + c.Value + "`"
	default:
		text += " " + c.Value
	}
	return text
}

// of says which columns a note is about, if not about all.
func (n Note) of() string {
	if n.Columns == "" {
		return ""
	}
	return " (" + n.Columns + ")"
}

// escape is a text for a table's cell, on one line. Emphasis and links stay.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}
