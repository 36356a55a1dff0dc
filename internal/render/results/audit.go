// Package results makes tables of the documents that offmap's commands print.
// A terminal, docs/ and the page of offmap report show the same tables.
package results

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"offmap/audit"
	"offmap/internal/render/table"
)

// Of is a document and the name of the host that it is from, which is shown
// where there are several.
type Of[T any] struct {
	Host string
	Doc  *T
}

// Audit is the attacks down and the guests across.
func Audit(docs ...Of[audit.Document]) *table.Table {
	t := &table.Table{Name: "Attacks on guest RAM"}
	hosts, backends, attaches, planted := table.Row(""), table.Row("backend"), table.Row("attach"), table.Row("pages planted")
	var guests []audit.Audited
	var avenues []audit.Outcome // one of each name
	for _, d := range docs {
		for _, g := range d.Doc.Matrix {
			guests = append(guests, g)
			for _, o := range g.Avenues {
				if !slices.ContainsFunc(avenues, func(have audit.Outcome) bool { return have.Name == o.Name }) {
					avenues = append(avenues, o)
				}
			}
			attach := string(g.Attach)
			if g.Window > 0 {
				attach += fmt.Sprintf(" of %g MiB", float64(g.Window)/(1<<20))
			}
			hosts = append(hosts, table.Cell{Text: d.Host})
			backends = append(backends, table.Cell{Text: string(g.Backend)})
			attaches = append(attaches, table.Cell{Text: attach})
			planted = append(planted, table.Cell{Text: strconv.Itoa(g.Planted)})
		}
	}
	if t.Head = [][]table.Cell{backends, attaches, planted}; len(docs) > 1 {
		t.Head = slices.Insert(t.Head, 0, hosts)
	}
	for _, owner := range []bool{false, true} {
		group := table.Group{Title: "by the host"}
		if owner {
			group.Title = "in the VMM's own name, which nothing keeps out"
		}
		for _, a := range avenues {
			if a.Owner != owner {
				continue
			}
			row := table.Row(a.Name)
			for i := range guests {
				row = append(row, attack(guests[i].Avenue(a.Name)))
			}
			group.Rows = append(group.Rows, row)
		}
		if group.Rows != nil {
			t.Groups = append(t.Groups, group)
		}
	}
	t.Notes = unproven(avenues, guests)
	return t
}

// attack is the cell of an attack on a guest; nil is one that wasn't made.
func attack(o *audit.Outcome) table.Cell {
	if o == nil {
		return table.Cell{Text: "–", Kind: table.Muted}
	}
	c := table.Cell{Text: string(o.Verdict), More: []table.Term{{Text: o.Evidence}}}
	switch o.Verdict {
	case audit.Exposed:
		c.Text, c.Kind, c.Strong, c.Value = "EXPOSED", table.Bad, true, strconv.Itoa(o.Pages)
	case audit.Blocked:
		c.Kind, c.Value, c.Code = table.Good, o.Errno, true
	case audit.Inconclusive:
		c.Kind = table.Warn
	default:
		c.Kind = table.Muted
	}
	if o.Outside != nil {
		c.More = append(c.More, table.Term{Name: "from outside the host", Text: fmt.Sprintf("in %d pages", *o.Outside)})
	}
	if o.Control.Backend != "" {
		c.More = append(c.More, table.Term{Name: "control", Text: fmt.Sprintf("%s: %s, %s", o.Control.Backend, o.Control.Verdict, o.Control.Evidence)})
	}
	return c
}

// unproven says why attacks proved nothing: each reason once, with the guests
// that it holds for unless it holds for all.
func unproven(avenues []audit.Outcome, guests []audit.Audited) (notes []table.Note) {
	for _, a := range avenues {
		var reasons []string
		of := map[string][]string{}
		for i := range guests {
			o := guests[i].Avenue(a.Name)
			if o == nil || o.Verdict != audit.Skipped && o.Verdict != audit.Inconclusive {
				continue
			}
			why := fmt.Sprintf("%s: %s", o.Verdict, o.Evidence)
			if of[why] == nil {
				reasons = append(reasons, why)
			}
			of[why] = append(of[why], guests[i].Pair.String())
		}
		for _, why := range reasons {
			note := table.Note{Row: a.Name, Text: why}
			if len(of[why]) < len(guests) {
				note.Columns = strings.Join(of[why], ", ")
			}
			notes = append(notes, note)
		}
	}
	return notes
}
