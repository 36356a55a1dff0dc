package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"offmap/internal/measure/bench"
)

func TestQuantity(t *testing.T) {
	for _, tt := range []struct {
		value      float64
		unit, want string
	}{
		{14900, "ns/page", "14.9 µs/page"},
		{999.6, "ns/op", "1.00 µs/op"},
		{0.5, "ns/op", "0.500 ns/op"},
		{0.81, "sec", "810 ms"},
		{12.4e9, "B/s", "12.4 GB/s"},
		{512 << 20, "B", "512 MiB"},
		{27000, "faults", "27.0 k faults"},
		{0, "ns/op", "0 ns/op"},
		{1e300, "ns/op", "1e+291 s/op"},
		{-14900, "ns/op", "-14.9 µs/op"},
	} {
		if got := quantity(tt.value, tt.unit); got != tt.want {
			t.Errorf("quantity(%v, %q) = %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}

// TestAxis holds that axes of any range have a few marks, all on them.
func TestAxis(t *testing.T) {
	plain := func(v float64) string { return fmt.Sprint(v) }
	for _, r := range [][2]float64{{0, 1}, {3, 3}, {0, 0}, {-5, 5}, {1e-9, 1e18}, {14.1, 14.2}, {1, 30}, {1e17, 1e18}, {-1e18, 1e18}, {4096, 1 << 30}} {
		for _, binary := range []bool{false, true} {
			a := span(r[0], r[1], plain)
			a.binary = binary
			marks := a.marks()
			if len(marks) < 1 || len(marks) > 13 {
				t.Errorf("%v: %d marks: %v", r, len(marks), marks)
			}
			for _, m := range marks {
				if m < a.low*(1-1e-6)-1e-9 && m < a.low || m > a.high*(1+1e-6) && m > a.high {
					t.Errorf("%v: mark %v is off the axis from %v to %v", r, m, a.low, a.high)
				}
			}
		}
	}
}

// TestAccelsApart holds that no chart has figures of two accelerators.
func TestAccelsApart(t *testing.T) {
	r := everything(t)
	sections, dropped := r.sections()
	if dropped != 0 {
		t.Errorf("%d charts dropped", dropped)
	}
	groups := 0
	for _, s := range sections {
		seen := map[string]bool{}
		for _, g := range s.Groups {
			groups++
			if seen[g.Accel] {
				t.Errorf("%s: two groups of %s", s.Title, g.Accel)
			}
			seen[g.Accel] = true
			if g.Emulated != strings.Contains(g.Accel, "emulated") {
				t.Errorf("%s: %s isn't marked as emulated", s.Title, g.Accel)
			}
			for _, c := range g.Charts {
				if strings.Contains(c.Note, "emulated (TCG)") != g.Emulated {
					t.Errorf("%s: a chart of %q among those of %s", s.Title, c.Note, g.Accel)
				}
			}
		}
	}
	if groups < 8 {
		t.Errorf("only %d groups", groups)
	}
	// The axis of a group doesn't know of the others: natively and emulated,
	// the same scenario has different ones.
	for _, o := range r.overviews() {
		if o.Note == "" || !strings.Contains(o.Note, o.from.place) {
			t.Errorf("overview %q doesn't say whose it is", o.Note)
		}
	}
}

// TestNames holds that sources of one kind can be told apart.
func TestNames(t *testing.T) {
	a, b, c := read(t, "before.json", benchDocument(t, native)), read(t, "after.json", benchDocument(t, native)), read(t, "lab.json", benchDocument(t, lab[0]))
	New("", []*Source{a, b, c})
	for s, want := range map[*Source]string{a: "6.18.44, pvm [before.json]", b: "6.18.44, pvm [after.json]", c: "6.1.0-56-cloud-amd64, emulated (TCG)"} {
		if s.Name != want {
			t.Errorf("%s is called %q, want %q", s.File, s.Name, want)
		}
	}
}

const evil = `</style></script><script>alert(1)</script><img src=x onerror=alert(1)>"'&` + "\x00\u202e\n"

// TestHostile holds that what a document says can't become part of the page.
func TestHostile(t *testing.T) {
	d := benchDocument(t, native)
	for i := range d.Results {
		d.Results[i].Name = fmt.Sprintf("%s/%d", evil, i)
		d.Results[i].Unit = evil
		d.Results[i].Curve = evil
	}
	d.Host.Kernel, d.Host.Model, d.Host.Governor = evil, evil, evil
	d.Args = []string{evil, "$(reboot)"}
	d.Unavailable[0].Reason = evil
	trace := traceDocument(native, "secret", "window")
	trace.Guest, trace.Host.Kernel = evil, evil
	sources := []*Source{read(t, evil, d), read(t, evil, trace)}
	for _, name := range []string{"audit.json", "limits-7.json", "run.json", "doctor.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		quoted := strings.Trim(fmt.Sprintf("%q", strings.ReplaceAll(evil, "\x00", "")), `"`)
		quoted = strings.ReplaceAll(quoted, `\x`, `\u00`)
		for _, key := range []string{"evidence", "errno", "kernel", "model", "reason", "title", "observed", "id", "kind", "name"} {
			text = regexp.MustCompile(`"`+key+`": "[^"\\]*"`).ReplaceAll(text, []byte(`"`+key+`": "`+strings.ReplaceAll(quoted, "$", "$$")+`"`))
		}
		text = regexp.MustCompile(`"link": "[^"]*"`).ReplaceAll(text, []byte(`"link": "javascript:alert(1)"`))
		s, err := Read(evil, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	r := New(evil, sources)
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if n := strings.Count(page, "alert(1)"); n < 50 {
		t.Errorf("the texts are there only %d times: this test sees nothing", n)
	}
	for _, bad := range []string{"<script", "<img", "onerror=alert(1)>", "javascript:", "ZgotmplZ", " style="} {
		if strings.Contains(page, bad) {
			at := strings.Index(page, bad)
			t.Errorf("the page has %q: %q", bad, page[max(0, at-80):at+80])
		}
	}
	if n := strings.Count(page, "</style>"); n != 1 {
		t.Errorf("%d ends of the style sheet", n)
	}
}

// TestDevices holds that the page says what each device of a guest transferred.
func TestDevices(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Read("run.json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := New("", []*Source{s}).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	if want := "disk vda: read 100 MiB, written 4 KiB; share data: read 0"; !strings.Contains(b.String(), want) {
		t.Errorf("the page lacks %q", want)
	}
}

// TestReadErrors holds that bad files are named, and what is wrong with them.
func TestReadErrors(t *testing.T) {
	for _, tt := range []struct{ name, doc, want string }{
		{"empty", "", "cut short"},
		{"cut short", `{"schema":"offmap/audit/v1","host":{`, "cut short"},
		{"no JSON", "hello", "invalid character"},
		{"no object", "[1]", "cannot unmarshal"},
		{"other schema", `{"schema":"offmap/bench/v2"}`, `its schema is "offmap/bench/v2", and report reads offmap/audit/v1, offmap/bench/v1, offmap/doctor/v1, offmap/exposure/v1, offmap/limits/v1, offmap/run/v1`},
		{"no schema", `{}`, `its schema is ""`},
		{"wrong types", `{"schema":"offmap/limits/v1","limits":7}`, "cannot unmarshal"},
		{"no matrix", `{"schema":"offmap/audit/v1"}`, "no column"},
		{"two documents", `{"schema":"offmap/run/v1"}{}`, "after top-level value"},
		{"not a trace", `{"schema":"offmap/exposure/v1"}`, "exposure trace"},
		{"no host", `{"schema":"offmap/bench/v1"}`, "no kernel"},
		{"many results", `{"schema":"offmap/limits/v1","limits":[` + strings.Repeat("{},", maxLimits) + `{}]}`, "1025 limits"},
	} {
		_, err := Read("x.json", strings.NewReader(tt.doc))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "x.json: ") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := Read("big.json", zeros{}); err == nil || !strings.Contains(err.Error(), "larger than 64 MiB") {
		t.Errorf("an endless file: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestManyCharts holds that a page stays one that can be opened.
func TestManyCharts(t *testing.T) {
	d := &bench.Document{Schema: bench.Schema, Host: bench.Host{}}
	d.Host.Kernel, d.Host.Accel = "k", "kvm"
	for i := range 3000 {
		d.Results = append(d.Results, result(fmt.Sprintf("s%d/m", i), "ns/op", secretBridge, float64(i+1)))
	}
	var b bytes.Buffer
	if err := New("", []*Source{read(t, "many.json", d)}).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "2600 charts more") || b.Len() > 8<<20 {
		t.Errorf("a page of %d KiB, which doesn't say what it leaves out", b.Len()>>10)
	}
}

// FuzzReport reads any document, and shows it: nothing panics, hangs, or takes
// much more room than the document did.
func FuzzReport(f *testing.F) {
	// Small ones: a page takes far longer than its mutation.
	for _, doc := range []string{
		`{"schema":"offmap/audit/v1","backend":"secret","attach":"bridge","matrix":[{"backend":"secret","attach":"bridge","avenues":[{"name":"ksm","verdict":"exposed","pages":3,"outside_pages":2,"control":{"backend":"anon"}}]}]}`,
		`{"schema":"offmap/limits/v1","limits":[{"id":"a","title":"b","link":"https://x","holds":true},{"id":"c","holds":null}]}`,
		`{"schema":"offmap/run/v1","backend":"secret","memory_bytes":1e9,"to_userland_ms":5,"faults":{"count":1,"p50_us":1e300}}`,
		`{"schema":"offmap/doctor/v1","backends":[{"backend":"anon","attach":"direct","works":true}]}`,
	} {
		f.Add([]byte(doc))
	}
	f.Add([]byte(`{"schema":"offmap/bench/v1","host":{"kernel":"k","accel":"kvm"},"results":[
		{"name":"a/b","backend":"secret","attach":"bridge","unit":"ns/op","accel":"kvm","status":"measured","values":[-1e308,1e308],"median":0,"low":-1e308,"high":1e308},
		{"name":"a/c/1","curve":"x","x":-4,"peer":"c","unit":"/","accel":"kvm","status":"measured","values":[1e-300],"median":1e-300,"low":1e-300,"high":1e-300,"against":{"subject":"x","ratio":1e-300,"p":0.1,"verdict":"worse"}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read("f", bytes.NewReader(data))
		if err != nil {
			return
		}
		r := New("", []*Source{s})
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		if page.Len() > 4<<20+40*len(data) {
			t.Errorf("a page of %d bytes from %d", page.Len(), len(data))
		}
	})
}
