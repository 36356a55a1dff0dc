package report

import (
	"fmt"
	"strings"

	"offmap/audit"
	"offmap/internal/measure/limits"
)

// matrix is the attacks down and the guests across, of all audits.
type matrix struct {
	Hosts   []matrixHost
	Columns []matrixColumn
	Parts   []matrixPart
}

type matrixHost struct {
	Name  string
	Width int // columns
}

type matrixColumn struct {
	Backend, Attach, Detail string
	First                   bool // of its host
}

// matrixPart is the attacks of one kind: by the host, or in the owner's name.
type matrixPart struct {
	Title string
	Rows  []matrixRow
}

type matrixRow struct {
	Name  string
	Cells []matrixCell
}

// matrixCell is an attack on a guest. Its symbol and word say what its colour
// does.
type matrixCell struct {
	Class, Symbol, Word, Detail string
	Evidence, Control, Title    string
	First                       bool
}

// matrix puts the audits together; nil if there are none.
func (r *Report) matrix() *matrix {
	m := &matrix{}
	type column struct {
		audit.Audited
		first bool
		by    map[string]audit.Outcome
	}
	var columns []column
	var names []string
	owner := map[string]bool{}
	for _, s := range r.sources {
		if s.Audit == nil {
			continue
		}
		m.Hosts = append(m.Hosts, matrixHost{s.Name, len(s.Audit.Matrix)})
		for i, c := range s.Audit.Matrix {
			col := column{c, i == 0, map[string]audit.Outcome{}}
			for _, a := range c.Avenues {
				if _, seen := owner[a.Name]; !seen && len(names) < maxAvenues {
					owner[a.Name] = a.Owner
					names = append(names, a.Name)
				}
				col.by[a.Name] = a
			}
			columns = append(columns, col)
			head := matrixColumn{Backend: cut(string(c.Backend), 40), Attach: cut(string(c.Attach), 40), First: i == 0}
			if c.Window > 0 {
				head.Detail = "of " + size(c.Window)
			}
			m.Columns = append(m.Columns, head)
		}
	}
	if len(columns) == 0 {
		return nil
	}
	for _, own := range []bool{false, true} {
		part := matrixPart{Title: "By the host"}
		if own {
			part.Title = "In the VMM’s own name, which nothing keeps out"
		}
		for _, name := range names {
			if owner[name] != own {
				continue
			}
			row := matrixRow{Name: cut(name, 60)}
			for _, c := range columns {
				a, ok := c.by[name]
				row.Cells = append(row.Cells, cell(a, ok, c.first))
			}
			part.Rows = append(part.Rows, row)
		}
		if len(part.Rows) > 0 {
			m.Parts = append(m.Parts, part)
		}
	}
	return m
}

func cell(a audit.Outcome, made, first bool) matrixCell {
	c := matrixCell{First: first, Word: cut(string(a.Verdict), 20), Evidence: cut(a.Evidence, 1000)}
	switch {
	case !made:
		return matrixCell{First: first, Class: "none", Symbol: "", Word: "–", Title: "not in this audit"}
	case a.Verdict == audit.Exposed:
		c.Class, c.Symbol, c.Detail = "bad", "✗", count(a.Pages, "page")
	case a.Verdict == audit.Blocked:
		c.Class, c.Symbol, c.Detail = "good", "✓", cut(a.Errno, 20)
	case a.Verdict == audit.Inconclusive:
		c.Class, c.Symbol = "warn", "?"
	default:
		c.Class, c.Symbol = "none", "·"
	}
	if a.Outside != nil {
		c.Evidence += fmt.Sprintf(" (from outside the host: in %s)", count(*a.Outside, "page"))
	}
	if a.Control.Backend != "" {
		c.Control = cut(fmt.Sprintf("%s: %s, %s", a.Control.Backend, a.Control.Verdict, a.Control.Evidence), 1000)
	}
	c.Title = c.Evidence
	return c
}

// limitsTable is the limits down and the hosts across, of all surveys.
type limitsTable struct {
	Hosts []string
	Rows  []limitRow
}

type limitRow struct {
	limits.Result // as the first host that has it says
	Cells         []limitCell
}

type limitCell struct{ Class, Symbol, Word, Host, Observed string }

// limits puts the surveys together; nil if there are none.
func (r *Report) limits() *limitsTable {
	t := &limitsTable{}
	var surveys []map[string]limits.Result
	at := map[string]bool{}
	for _, s := range r.sources {
		if s.Limits == nil {
			continue
		}
		t.Hosts = append(t.Hosts, s.Name)
		by := map[string]limits.Result{}
		for _, l := range s.Limits.Limits {
			by[l.ID] = l
			if !at[l.ID] && len(t.Rows) < maxLimits {
				at[l.ID] = true
				l.ID, l.Title, l.Source = cut(l.ID, 60), cut(l.Title, 300), cut(l.Source, 300)
				l.How, l.Expected, l.Means = cut(l.How, 2000), cut(l.Expected, 1000), cut(l.Means, 2000)
				if !strings.HasPrefix(l.Link, "https://") {
					l.Link = "" // the only kind that limits have
				}
				t.Rows = append(t.Rows, limitRow{Result: l})
			}
		}
		surveys = append(surveys, by)
	}
	if len(surveys) == 0 {
		return nil
	}
	for i, row := range t.Rows {
		for k, by := range surveys {
			l, ok := by[row.ID]
			c := limitCell{Class: "none", Symbol: "?", Word: "unknown", Host: t.Hosts[k], Observed: cut(l.Observed, 2000)}
			switch {
			case !ok:
				c.Symbol, c.Word = "", "–"
			case l.Holds != nil && *l.Holds:
				c.Class, c.Symbol, c.Word = "neutral", "●", "holds"
			case l.Holds != nil:
				c.Class, c.Symbol, c.Word = "warn", "○", "doesn’t hold"
			}
			t.Rows[i].Cells = append(t.Rows[i].Cells, c)
		}
	}
	return t
}

// runRow is a run of a guest.
type runRow struct {
	Host, Guest, RAM, Populated, Exposed, Window, Userland, Faults, End string
}

func (r *Report) runs() (rows []runRow) {
	for _, s := range r.sources {
		d := s.Run
		if d == nil {
			continue
		}
		row := runRow{
			Host: s.Name, Guest: cut(d.Pair().String(), 60),
			RAM: size(d.Memory), Populated: size(d.Populated), Exposed: size(d.ExposedPeak),
			End: cut(string(d.Exit.Reason), 40),
		}
		if d.Window > 0 {
			row.Window = size(d.Window)
		}
		if d.ToUserland != nil {
			row.Userland = quantity(*d.ToUserland/1e3, "sec")
		}
		if f := d.Faults; f != nil {
			row.Faults = fmt.Sprintf("%d, median %s, p99 %s", f.Count, quantity(f.P50*1e3, "ns"), quantity(f.P99*1e3, "ns"))
		}
		rows = append(rows, row)
	}
	return rows
}

// doctorRow is a backend and attach, and whether they work on a host.
type doctorRow struct{ Host, Pair, Class, Symbol, Word, Reason string }

func (r *Report) doctors() (rows []doctorRow) {
	for _, s := range r.sources {
		if s.Doctor == nil {
			continue
		}
		for _, t := range s.Doctor.Backends {
			row := doctorRow{Host: s.Name, Pair: cut(t.Pair.String(), 60), Class: "good", Symbol: "✓", Word: "works"}
			if !t.Works {
				row.Class, row.Symbol, row.Word, row.Reason = "none", "✗", "doesn’t work here", cut(t.Reason, 500)
			}
			rows = append(rows, row)
		}
	}
	return rows
}
