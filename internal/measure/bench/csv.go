package bench

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
)

// csvColumns are the columns of WriteCSV.
var csvColumns = []string{
	"kernel", "kvm", "accel", "cpu", "cpus", "governor", "transparent_hugepage",
	"scenario", "metric", "unit", "more_is_better", "curve", "x", "x_unit",
	"subject", "backend", "attach", "peer", "page_bytes", "status", "sample", "value",
}

// WriteCSV writes the document's values as CSV in long form, one on each line, for
// R's read.csv or pandas. Samples are numbered from 1 in the order taken. Results
// without values have no lines.
func WriteCSV(w io.Writer, d *Document) error {
	c := csv.NewWriter(w)
	c.Write(csvColumns) // Error returns its error
	h := d.Host
	for _, r := range d.Results {
		scenario, metric, _ := strings.Cut(r.Name, "/")
		line := []string{
			h.Kernel, h.KVM, r.Accel, h.Model, strconv.Itoa(h.CPUs), h.Governor, h.THP,
			scenario, metric, r.Unit, strconv.FormatBool(r.More), r.Curve, x(r), r.XUnit,
			r.Subject.String(), string(r.Backend), string(r.Attach), string(r.Peer), page(r), string(r.Status),
		}
		for i, v := range r.Values {
			c.Write(append(line[:len(line):len(line)], strconv.Itoa(i+1), number(v)))
		}
	}
	c.Flush()
	return c.Error()
}

// x returns the X of a result that is on a curve, or "".
func x(r Result) string {
	if r.Curve == "" {
		return ""
	}
	return number(r.X)
}

// page returns the page size in bytes, or "" if it isn't known.
func page(r Result) string {
	if r.Page == 0 {
		return ""
	}
	return strconv.FormatUint(r.Page, 10)
}

// number returns the shortest text that is parsed as v.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
