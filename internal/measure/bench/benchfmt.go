package bench

import (
	"cmp"
	"io"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// WriteBenchfmt writes the document's values in Go's benchmark format, one on each
// line, for benchstat and similar tools
// (https://go.dev/design/14313-benchmark-format).
//
// The subject is part of the configuration, and benchstat makes a table for each
// configuration. `benchstat -table accel -col subject FILE` compares subjects, and
// `benchstat -table accel,subject OLD NEW` compares two runs.
func WriteBenchfmt(w io.Writer, d *Document) error {
	out := benchfmt.NewWriter(w)
	for _, u := range units(d.Results) {
		if err := out.Write(u); err != nil {
			return err
		}
	}
	for _, r := range d.Results {
		for _, v := range r.Values {
			rec := &benchfmt.Result{Name: benchmarkName(r.Name), Iters: 1}
			rec.Values = []benchfmt.Value{{Value: v, Unit: r.Unit}}
			for _, c := range configuration(d.Host, r) {
				rec.Config = append(rec.Config, benchfmt.Config{Key: c.key, Value: []byte(c.value), File: true})
			}
			if err := out.Write(rec); err != nil {
				return err
			}
		}
	}
	return nil
}

type setting struct{ key, value string }

// configuration returns the configuration of a result's values. It always has the
// same keys, so that none is left from the line before. A missing value is "none"
// or "unknown".
func configuration(h Host, r Result) []setting {
	none := func(s string) string { return cmp.Or(s, "none") }
	return []setting{
		{"kernel", h.Kernel}, {"kvm", h.KVM}, {"accel", r.Accel}, {"cpu", cmp.Or(h.Model, "unknown")}, {"governor", none(h.Governor)},
		{"subject", r.Subject.String()}, {"backend", none(string(r.Backend))}, {"attach", none(string(r.Attach))},
		{"peer", none(string(r.Peer))}, {"page", cmp.Or(page(r), "unknown")},
	}
}

// benchmarkName returns a result's name in the form that the format requires:
// without white space, and with a capital first letter.
func benchmarkName(name string) []byte {
	name = strings.Join(strings.Fields(name), "-")
	if name == "" {
		return nil
	}
	return []byte(strings.ToUpper(name[:1]) + name[1:])
}

// units returns for each unit whether lower or higher is better, unless its metrics
// disagree.
func units(results []Result) (list []*benchfmt.UnitMetadata) {
	more := map[string]bool{}
	mixed := map[string]bool{}
	var order []string
	for _, r := range results {
		if m, seen := more[r.Unit]; !seen {
			more[r.Unit] = r.More
			order = append(order, r.Unit)
		} else if m != r.More {
			mixed[r.Unit] = true
		}
	}
	for _, u := range order {
		better := "lower"
		if more[u] {
			better = "higher"
		}
		if !mixed[u] {
			list = append(list, &benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: u, Key: "better"}, OrigUnit: u, Value: better})
		}
	}
	return list
}
