package bench

import (
	"cmp"
	"io"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// WriteBenchfmt writes the document's values in Go's benchmark format, a line
// a value, for benchstat and its like
// (https://go.dev/design/14313-benchmark-format).
//
// What tells subjects from each other is configuration, and benchstat makes a
// table for each configuration: `benchstat -table accel -col subject FILE` has
// subjects beside each other, the one to compare with first, and
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

// configuration is what a value was measured with. All have the same keys, so
// that none is left over from the line before; what isn't known is "none" or
// "unknown".
func configuration(h Host, r Result) []setting {
	none := func(s string) string { return cmp.Or(s, "none") }
	return []setting{
		{"kernel", h.Kernel}, {"kvm", h.KVM}, {"accel", r.Accel}, {"cpu", cmp.Or(h.Model, "unknown")}, {"governor", none(h.Governor)},
		{"subject", r.Subject.String()}, {"backend", none(string(r.Backend))}, {"attach", none(string(r.Attach))},
		{"peer", none(string(r.Peer))}, {"page", cmp.Or(page(r), "unknown")},
	}
}

// benchmarkName is a result's name as the format wants it: no white space, and
// a capital behind the word Benchmark.
func benchmarkName(name string) []byte {
	name = strings.Join(strings.Fields(name), "-")
	if name == "" {
		return nil
	}
	return []byte(strings.ToUpper(name[:1]) + name[1:])
}

// units says which way each unit is better, where its metrics agree on that.
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
