package results

import (
	"offmap/internal/measure/limits"
	"offmap/internal/render/table"
)

// Limits is the limits down and the hosts across.
func Limits(docs ...Of[limits.Document]) *table.Table {
	t := &table.Table{Name: "Known limits", Columns: []table.Column{{Wide: true}}}
	head := table.Row("limit")
	at := map[string]int{} // the row of a limit
	var rows [][]table.Cell
	for i, d := range docs {
		head = append(head, table.Cell{Text: d.Host})
		for _, r := range d.Doc.Limits {
			k, ok := at[r.ID]
			if !ok {
				k = len(rows)
				at[r.ID] = k
				rows = append(rows, []table.Cell{{Text: r.Title, Link: "#" + r.ID, More: terms(r)}})
			}
			for len(rows[k]) < 1+i {
				rows[k] = append(rows[k], notAsked)
			}
			if len(rows[k]) == 1+i {
				rows[k] = append(rows[k], State(r))
			}
		}
	}
	for k := range rows {
		for len(rows[k]) < len(head) {
			rows[k] = append(rows[k], notAsked)
		}
	}
	if len(docs) > 1 || docs[0].Host != "" {
		t.Head = [][]table.Cell{head}
	}
	t.Groups = []table.Group{{Rows: rows}}
	return t
}

// LimitsInFull is all that there is to say of each limit on one host.
func LimitsInFull(doc *limits.Document) *table.Table {
	t := &table.Table{Name: "Known limits", Columns: []table.Column{{}, {Wide: true}}}
	for _, r := range doc.Limits {
		group := table.Group{Title: r.Title, Rows: [][]table.Cell{table.Row("ID", r.ID)}}
		holds := map[string]string{Holds: "yes", HoldsNot: "no", Unknown: "couldn't be checked"}[State(r).Text]
		all := terms(r)
		means := len(all) - 1
		all = append(all[:means:means], table.Term{Name: "observed", Text: r.Observed}, table.Term{Name: "holds", Text: holds}, all[means])
		for _, m := range all {
			group.Rows = append(group.Rows, table.Row(m.Name, m.Text))
			if m.Link != "" {
				group.Rows = append(group.Rows, table.Row("", m.Link))
			}
		}
		t.Groups = append(t.Groups, group)
	}
	return t
}

// terms is what there is to say of a limit on any host.
func terms(r limits.Result) []table.Term {
	return []table.Term{{Name: "source", Text: r.Source, Link: r.Link}, {Name: "how", Text: r.How}, {Name: "expected", Text: r.Expected}, {Name: "means", Text: r.Means}}
}

// The words for how a limit stands on a host.
const (
	Holds    = "holds"
	HoldsNot = "NOT"
	Unknown  = "?"
)

var notAsked = table.Cell{Text: "–", Kind: table.Muted}

// State is the cell of a limit on a host.
func State(r limits.Result) table.Cell {
	c := table.Cell{Text: Unknown, Kind: table.Muted, More: []table.Term{{Text: r.Observed}}}
	switch {
	case r.Holds == nil:
	case *r.Holds:
		c.Text, c.Kind = Holds, table.Plain
	default:
		c.Text, c.Kind, c.Strong = HoldsNot, table.Warn, true
	}
	return c
}
