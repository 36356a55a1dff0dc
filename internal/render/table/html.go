package table

import (
	"fmt"
	"html/template"
	"strings"
)

// Bounds of what HTML shows of a text, in characters: documents may be hostile.
const (
	mostText = 300
	mostMore = 2000
)

// HTML returns the table for a page, in a box that scrolls. Neighbours of the
// first of several lines of the head are put together if they are equal, and
// set off from the others.
func (t *Table) HTML() template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<div class="scroll" tabindex="0" role="region" aria-label="%s"><table>`+"\n<thead>", esc(t.Name, mostText))
	first := map[int]bool{}
	for i, row := range t.Head {
		b.WriteString("<tr>")
		for k := 0; k < len(row); {
			n := 1
			if i == 0 && len(t.Head) > 1 && k > 0 {
				for k+n < len(row) && row[k+n].Text == row[k].Text {
					n++
				}
				first[k] = true
			}
			span := ""
			if n > 1 {
				span = fmt.Sprintf(` colspan="%d"`, n)
			}
			fmt.Fprintf(&b, `<th scope="col"%s%s>%s</th>`, span, t.class(k, first[k], Plain), row[k].html())
			k += n
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</thead>\n")
	for _, g := range t.Groups {
		b.WriteString("<tbody>\n")
		if g.Title != "" {
			b.WriteString(`<tr class="part"><th scope="rowgroup">` + esc(g.Title, mostText) + "</th>")
			for k := range t.Head[0][1:] {
				fmt.Fprintf(&b, "<td%s></td>", t.class(k+1, first[k+1], Plain))
			}
			b.WriteString("</tr>\n")
		}
		for _, row := range g.Rows {
			b.WriteString("<tr>")
			for k, c := range row {
				element := "td"
				if k == 0 {
					element = `th scope="row"`
				}
				fmt.Fprintf(&b, "<%s%s>%s</%s>", element, t.class(k, first[k], c.Kind), c.html(), element[:2])
			}
			b.WriteString("</tr>\n")
		}
		b.WriteString("</tbody>\n")
	}
	b.WriteString("</table></div>")
	return template.HTML(b.String())
}

// class is the attribute that says how a cell looks.
func (t *Table) class(column int, first bool, k Kind) string {
	var list []string
	if c := t.column(column); c.Wide {
		list = append(list, "wide")
	} else if c.Right {
		list = append(list, "n")
	}
	if first {
		list = append(list, "first")
	}
	if k != Plain {
		list = append(list, "v", string(k))
	}
	if list == nil {
		return ""
	}
	return ` class="` + strings.Join(list, " ") + `"`
}

func (c Cell) html() string {
	text := esc(c.Text, mostText)
	if strings.HasPrefix(c.Link, "https://") {
		text = link(c.Link, text)
	}
	if c.Value != "" {
		text += " <small>" + esc(c.Value, mostText) + "</small>"
	}
	var more strings.Builder
	for _, m := range c.More {
		if m.Text == "" {
			continue
		}
		said := esc(m.Text, mostMore)
		if strings.HasPrefix(m.Link, "https://") {
			said = link(m.Link, said)
		}
		if m.Name != "" {
			said = "<b>" + esc(m.Name, mostText) + ":</b> " + said
		}
		more.WriteString("<p>" + said + "</p>")
	}
	if more.Len() == 0 {
		return text
	}
	return "<details><summary>" + text + "</summary>" + more.String() + "</details>"
}

// link is a link with a text, which is HTML. The page's address isn't told.
func link(address, text string) string {
	return `<a href="` + template.HTMLEscapeString(address) + `" rel="noreferrer">` + text + `</a>`
}

// esc is a text of at most n characters as HTML.
func esc(s string, n int) string {
	if r := []rune(s); len(s) > n && len(r) > n {
		s = string(r[:n-1]) + "…"
	}
	return template.HTMLEscapeString(s)
}
