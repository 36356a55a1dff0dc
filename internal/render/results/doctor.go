package results

import (
	"fmt"
	"slices"
	"strings"

	"offmap/internal/measure/probe"
	"offmap/internal/render/table"
	"offmap/memory"
	"offmap/memory/attach"
)

// Trials is the pairs of backend and attach down and the hosts across, with
// what is missing where they don't work.
func Trials(docs ...Of[probe.Document]) *table.Table {
	t := &table.Table{Name: "What works where", Columns: make([]table.Column, 2+len(docs)+1)}
	head := table.Row("backend", "attach")
	var pairs []attach.Pair
	for _, d := range docs {
		head = append(head, table.Cell{Text: d.Host})
		for _, trial := range d.Doc.Backends {
			if !slices.Contains(pairs, trial.Pair) {
				pairs = append(pairs, trial.Pair)
			}
		}
	}
	t.Columns[2+len(docs)].Wide = true
	t.Head = [][]table.Cell{append(head, table.Cell{Text: "needs"})}
	var rows [][]table.Cell
	for _, p := range pairs {
		row := table.Row(string(p.Backend), string(p.Attach))
		var needs []string
		for _, d := range docs {
			i := slices.IndexFunc(d.Doc.Backends, func(trial probe.Trial) bool { return trial.Pair == p })
			if i < 0 {
				row = append(row, table.Cell{Text: "not tried", Kind: table.Muted})
				continue
			}
			one := d.Doc.Backends[i]
			row = append(row, trial(one))
			if one.Needs != "" && !slices.Contains(needs, one.Needs) {
				needs = append(needs, one.Needs)
			}
		}
		rows = append(rows, append(row, table.Cell{Text: strings.Join(needs, "; ")}))
	}
	t.Groups = []table.Group{{Rows: rows}}
	return t
}

// trial is the cell of a pair on a host.
func trial(t probe.Trial) table.Cell {
	if t.Works {
		return table.Cell{Text: "works", Kind: table.Good, Strong: true}
	}
	return table.Cell{Text: "doesn't work", Kind: table.Bad, Value: t.Errno, Code: true, More: []table.Term{{Text: t.Reason}}}
}

// TrialsOn is the pairs on one host, those of a backend first.
func TrialsOn(doc *probe.Document, first memory.Backend) *table.Table {
	t := &table.Table{Name: "What works here", Columns: []table.Column{{}, {}, {Wide: true}}}
	mine, others := table.Group{Title: fmt.Sprintf("Guest RAM in %s memory:", first)}, table.Group{Title: "in other memory:"}
	for _, one := range doc.Backends {
		group := &others
		if one.Backend == first {
			group = &mine
		}
		c := trial(one)
		said := c.Text
		if c.Value != "" {
			said += " (" + c.Value + ")"
		}
		if one.Needs != "" {
			said += ", needs " + one.Needs
		}
		for _, m := range c.More {
			said += ": " + m.Text
		}
		group.Rows = append(group.Rows, []table.Cell{
			{Text: string(one.Backend), Kind: c.Kind}, {Text: string(one.Attach), Kind: c.Kind}, {Text: said},
		})
	}
	t.Groups = []table.Group{mine, others}
	return t
}

// Checks is what doctor checked on one host, what is in the way first.
func Checks(doc *probe.Document) *table.Table {
	t := &table.Table{Name: "Checks of this host", Columns: []table.Column{{}, {}, {Wide: true}}}
	for _, s := range []struct {
		status probe.Status
		title  string
		kind   table.Kind
	}{
		{probe.Fail, "in the way:", table.Bad}, {probe.Warn, "could be better:", table.Warn},
		{probe.OK, "fine:", table.Good}, {probe.Skip, "not here:", table.Muted},
	} {
		group := table.Group{Title: s.title}
		for _, c := range doc.Checks {
			if c.Status != s.status {
				continue
			}
			status := table.Cell{Text: string(c.Status), Kind: s.kind}
			if c.Fix != "" {
				status.More = []table.Term{{Name: "fix", Text: c.Fix, Command: true}}
			}
			group.Rows = append(group.Rows, []table.Cell{status, {Text: c.Name, Kind: s.kind}, {Text: c.Detail}})
		}
		if group.Rows != nil {
			t.Groups = append(t.Groups, group)
		}
	}
	return t
}
