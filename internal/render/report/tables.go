package report

import (
	"fmt"
	"strings"
	"time"

	"offmap/audit"
	"offmap/internal/measure/guestrun"
	"offmap/internal/measure/limits"
	"offmap/internal/measure/probe"
	"offmap/internal/render/results"
	"offmap/internal/render/table"
)

// tableOf makes one table of the documents of a kind; nil if there are none.
func tableOf[T any](r *Report, doc func(*Source) *T, make func(...results.Of[T]) *table.Table) *table.Table {
	var list []results.Of[T]
	for _, s := range r.sources {
		if d := doc(s); d != nil {
			list = append(list, results.Of[T]{Host: s.Name, Doc: d})
		}
	}
	if list == nil {
		return nil
	}
	return make(list...)
}

func (r *Report) attacks() *table.Table {
	return tableOf(r, func(s *Source) *audit.Document { return s.Audit }, results.Audit)
}

func (r *Report) limits() *table.Table {
	return tableOf(r, func(s *Source) *limits.Document { return s.Limits }, results.Limits)
}

func (r *Report) trials() *table.Table {
	return tableOf(r, func(s *Source) *probe.Document { return s.Doctor }, results.Trials)
}

func (r *Report) runs() *table.Table {
	return tableOf(r, func(s *Source) *guestrun.Document { return s.Run }, runs)
}

// runs is runs of guests.
func runs(docs ...results.Of[guestrun.Document]) *table.Table {
	t := &table.Table{
		Name:    "Runs of guests",
		Columns: []table.Column{{Wide: true}, {}, {Right: true}, {Right: true}, {Right: true}, {Right: true}, {Right: true}, {Wide: true}, {Wide: true}, {}},
		Head:    [][]table.Cell{table.Row("host", "guest RAM in", "size", "populated", "exposed, at most", "window", "to userland", "faults", "devices", "end")},
	}
	var rows [][]table.Cell
	for _, one := range docs {
		d := one.Doc
		window, userland, faults := "", "", ""
		if d.Window > 0 {
			window = size(d.Window)
		}
		if d.ToUserland != nil {
			userland = quantity(*d.ToUserland/1e3, "sec")
		}
		if f := d.Faults; f != nil {
			faults = fmt.Sprintf("%d, median %s, p99 %s", f.Count, quantity(f.P50*1e3, "ns"), quantity(f.P99*1e3, "ns"))
		}
		rows = append(rows, table.Row(one.Host, d.Pair().String(), size(d.Memory), size(d.Populated), size(d.ExposedPeak),
			window, userland, faults, devices(d.Devices), string(d.Exit.Reason)))
	}
	t.Groups = []table.Group{{Rows: rows}}
	return t
}

// devices says how much a guest read from each of its devices, and wrote to it.
func devices(list []guestrun.Device) string {
	var each []string
	for _, d := range list {
		each = append(each, fmt.Sprintf("%s %s: read %s, written %s", cut(string(d.Kind), 40), cut(d.Name, 40), size(d.ReadBytes), size(d.WrittenBytes)))
	}
	return some(each, 8, "; ")
}

// documents is the documents and where they were made.
func (r *Report) documents() *table.Table {
	t := &table.Table{
		Name:    "Documents and hosts",
		Columns: []table.Column{{Wide: true}, {}, {}, {}, {Wide: true}, {Wide: true}, {Wide: true}},
		Head:    [][]table.Cell{table.Row("host", "document", "file", "accelerator", "CPUs", "settings", "made")},
	}
	var rows [][]table.Cell
	for _, s := range r.sources {
		row := table.Row(s.Name, s.kind(), s.File, accelName(s.Host.Accel),
			strings.TrimSuffix(fmt.Sprintf("%d × %s", s.Host.CPUs, cut(s.Host.Model, 80)), " × "), s.settings(), s.made())
		if emulated(s.Host.Accel) {
			row[3].Kind = table.Warn
		}
		rows = append(rows, row)
	}
	t.Groups = []table.Group{{Rows: rows}}
	return t
}

// settings are the host's that times depend on.
func (s *Source) settings() string {
	var list []string
	for _, one := range []struct{ name, value string }{
		{"governor", s.Host.Governor}, {"transparent_hugepage", s.Host.THP}, {"shmem_enabled", s.Host.ShmemTHP},
	} {
		if one.value != "" {
			list = append(list, one.name+" "+cut(one.value, 40))
		}
	}
	return strings.Join(list, ", ")
}

// made is when the document was made, as far as it says so.
func (s *Source) made() (text string) {
	started := ""
	switch {
	case s.Bench != nil:
		started = s.Bench.Started
	case s.Trace != nil:
		started = s.Trace.Started
	}
	at, err := time.Parse(time.RFC3339, started)
	if err != nil {
		return ""
	}
	text = at.UTC().Format("2006-01-02 15:04 UTC")
	if s.Bench != nil {
		text += ", " + quantity(s.Bench.Seconds, "sec")
	}
	return text
}
