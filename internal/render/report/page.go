package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"

	"offmap/internal/render/table"

	"mvdan.cc/sh/v3/syntax"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Parse(pageHTML))
})

// page is what the template shows. The template escapes its strings, which may
// be from documents.
type page struct {
	Title     string
	Policy    string // Content-Security-Policy
	Style     template.CSS
	Hosts     []hostRow
	Summary   []*said
	Sections  []section
	Exposure  []traceCharts
	Runs      *table.Table
	Attacks   *table.Table
	Limits    *table.Table
	Trials    *table.Table
	Documents *table.Table
	Commands  []command
	Emulated  bool   // at least one benchmark is from an emulated host
	Truncated string // a sentence, if some charts are left out
}

// traceCharts is the charts of a guest's run.
type traceCharts struct {
	Guest  string
	Charts []chart
}

// command is a command line that makes documents, and the hosts it was used on.
type command struct {
	Hosts      []string
	Line, Note string
}

// hostRow is a host, and the documents from it.
type hostRow struct {
	Place, Kinds string
	Partial      bool
}

func (r *Report) page() *page {
	style := palette() + pageCSS
	sum := sha256.Sum256([]byte(style))
	p := &page{
		Title: cut(r.title, 200),
		// No script, no network, and only this style sheet.
		Policy:  "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
		Style:   template.CSS(style),
		Summary: r.summary(),
		Runs:    r.runs(), Attacks: r.attacks(), Limits: r.limits(), Trials: r.trials(), Documents: r.documents(),
	}
	var dropped int
	if p.Sections, dropped = r.sections(); dropped > 0 {
		p.Truncated = fmt.Sprintf("%s more: the tables have their figures. Make a report of fewer files to see them.", count(dropped, "chart"))
	}
	for _, of := range groupBy(r.sources, func(s *Source) string { return s.place }) {
		row := hostRow{Place: of[0].place}
		var kinds []string
		for _, same := range groupBy(of, (*Source).kind) {
			kind := same[0].kind()
			if len(same) > 1 {
				kind += fmt.Sprintf(" × %d", len(same))
			}
			kinds = append(kinds, kind)
			for _, s := range same {
				row.Partial = row.Partial || s.Bench != nil && s.Bench.Partial
			}
		}
		row.Kinds = strings.Join(kinds, ", ")
		p.Hosts = append(p.Hosts, row)
	}
	for _, s := range r.sources {
		if s.Bench != nil {
			p.Emulated = p.Emulated || emulated(s.Host.Accel)
		}
		c := s.command()
		if i := slices.IndexFunc(p.Commands, func(have command) bool { return have.Line == c.Line && have.Note == c.Note }); i >= 0 {
			p.Commands[i].Hosts = append(p.Commands[i].Hosts, s.Name)
		} else {
			c.Hosts = []string{s.Name}
			p.Commands = append(p.Commands, c)
		}
		if s.Trace != nil {
			p.Exposure = append(p.Exposure, traceCharts{fmt.Sprintf("%s, on %s", cut(s.Trace.Guest, 80), s.Name), chartsOf(s)})
		}
	}
	return p
}

// command is the command line that makes the document again.
func (s *Source) command() command {
	const unknown = "its flags aren’t in the document"
	switch {
	case s.Bench != nil:
		return command{nil, commandLine(s.Bench.Args), ""}
	case s.Trace != nil:
		t := s.Trace
		return command{nil, commandLine([]string{
			"run", "--backend", string(t.Backend), "--attach", string(t.Attach), "-m", fmt.Sprint(t.Memory >> 20), "-c", fmt.Sprint(t.CPUs), "--exposure", "FILE",
		}), fmt.Sprintf("guest: %s; %s", cut(t.Guest, 80), unknown)}
	case s.Run != nil:
		d := s.Run
		return command{nil, commandLine([]string{
			"run", "--backend", string(d.Backend), "--attach", string(d.Attach), "-m", fmt.Sprint(d.Memory >> 20), "--json",
		}), unknown}
	case s.Audit != nil:
		return command{nil, commandLine([]string{
			"audit", "--backend", string(s.Audit.Backend), "--attach", string(s.Audit.Attach), "-m", fmt.Sprint(s.Audit.Memory >> 20), "--json",
		}), unknown}
	}
	return command{nil, commandLine([]string{s.kind(), "--json"}), unknown}
}

// commandLine quotes the arguments of an offmap command for a shell.
func commandLine(args []string) string {
	words := []string{"offmap"}
	for _, a := range args[:min(len(args), 100)] {
		a = cut(a, 1000)
		w, err := syntax.Quote(a, syntax.LangBash)
		if err != nil { // a NUL, which no command line has
			w = fmt.Sprintf("%q", a)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}
