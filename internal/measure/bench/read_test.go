package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// document returns a document with results of all kinds.
func document(t *testing.T) *Document {
	t.Helper()
	two := Scenario{
		Name: "two", Metrics: []Metric{{Name: "rate/4KiB", Unit: "B/s", More: true, Curve: "working set", X: 4096, XUnit: "B"}, {Name: "time", Unit: "ns/op"}},
		Subjects: everyone, Sample: sampler(map[Subject]float64{anon: 110, memfd: 100, secret: 200, plainC: 95}),
	}
	refuses := fake("refuses", func(Subject, int) (float64, error) { return 0, ErrEmulated })
	d := plan(10, []Subject{anon, memfd, secret, plainC}, two, refuses).Run(t.Context())
	d.Args = []string{"bench", "--quick"}
	d.Unavailable = []Unavailable{{Subject: Subject{Peer: Gokvm}, Reason: "not here"}}
	return d
}

// marshal returns the document as a run writes it.
func marshal(t testing.TB, d *Document) []byte {
	t.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRead(t *testing.T) {
	d := document(t)
	got, err := Read(bytes.NewReader(marshal(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, got); diff != "" {
		t.Errorf("written and read:\n%s", diff)
	}
}

// TestReadRefuses checks the errors for documents that no run has written.
func TestReadRefuses(t *testing.T) {
	text := string(marshal(t, document(t)))
	edit := func(change func(d *Document)) string {
		d := document(t)
		change(d)
		return string(marshal(t, d))
	}
	replace := func(old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("no %s in %s", old, text)
		}
		return strings.Replace(text, old, new, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"cut short", text[:len(text)/2], "cut short"},
		{"no JSON", "goos: linux", "not a JSON document"},
		{"no object", "[1]", "not a document"},
		{"no schema", "{}", `schema ""`},
		{"another schema", `{"schema": "offmap/run/v1", "results": 1}`, `schema "offmap/run/v1": want "offmap/bench/v1"`},
		{"the next schema", replace("bench/v1", "bench/v2"), "bench/v2"},
		{"another type", replace(`"results":[`, `"results":[1,`), "results"},
		{"two documents", text + text, "after the document"},
		{"infinity", replace(`"median":`, `"median":1e999,"x_median":`), "1e999"},
		{"NaN", replace(`"median":`, `"median":NaN,"x_median":`), "not a JSON document"},
		{"no host", edit(func(d *Document) { d.Host.Kernel = "" }), "kernel"},
		{"measured without values", edit(func(d *Document) { d.Results[1].Values = nil }), "result 1 (two/rate/4KiB of anon+direct): measured, and no values"},
		{"refused with values", edit(func(d *Document) { d.Results[1].Status = Refused }), "refused, and 10 values"},
		{"unknown status", edit(func(d *Document) { d.Results[1].Status = "guessed" }), "guessed"},
		{"twice", edit(func(d *Document) { d.Results[1] = d.Results[0] }), "duplicate"},
		{"no name", edit(func(d *Document) { d.Results[0].Name = "" }), "no name"},
		{"median of other values", edit(func(d *Document) { d.Results[0].Median = 1 }), "don't fit"},
		{"interval inside out", edit(func(d *Document) { r := &d.Results[0]; r.Low, r.High = r.High, r.Low }), "don't fit"},
		{"narrower than it was", edit(func(d *Document) { d.Results[0].Values[0] *= 1e6; d.Results[0].High *= 1e7 }), "don't fit"},
		{"confidence", edit(func(d *Document) { d.Results[0].Confidence = 95 }), "confidence"},
		{"verdict", edit(func(d *Document) { d.Results[1].Against.Verdict = "fine" }), "fine"},
		{"accel", edit(func(d *Document) { d.Results[1].Accel = "tcg" }), `accel "tcg" on a host of accel "kvm"`},
	} {
		if _, err := Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", c.name, err, c.want)
		}
	}
}

// FuzzRead checks that a document which Read accepts can be written in every format,
// and is the same when it is read again.
func FuzzRead(f *testing.F) {
	f.Add(marshal(f, &Document{Schema: Schema, Host: fakeHost("kvm"), Results: []Result{measuredAs(memfd, 1, 2, 3, 4, 5, 6)}}))
	f.Add([]byte(`{"schema":"offmap/bench/v1","host":{"kernel":"1","accel":"tcg"},"results":[{"name":"a","unit":"B","peer":"c","accel":"tcg","status":"refused"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, err := Read(bytes.NewReader(marshal(t, d)))
		if err != nil {
			t.Fatalf("written and refused: %v", err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Fatalf("written and read:\n%s", diff)
		}
		for _, write := range formats {
			if err := write(&bytes.Buffer{}, d); err != nil {
				t.Fatal(err)
			}
		}
		if _, list := Agree(d, again); len(list) > 0 {
			t.Fatalf("it disagrees with itself: %v", list)
		}
	})
}
