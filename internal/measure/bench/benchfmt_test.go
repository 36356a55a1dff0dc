package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"
)

// formats are the output formats besides JSON.
var formats = []func(io.Writer, *Document) error{WriteCSV, WriteBenchfmt}

// sampler returns samples of a rate and a time that vary by a few percent around a
// subject's cost.
func sampler(cost map[Subject]float64) func(context.Context, *Env, Subject) ([]float64, error) {
	n := 0
	return func(_ context.Context, _ *Env, s Subject) ([]float64, error) {
		n++
		ns := cost[s] * (1 + 0.01*float64(n%5))
		return []float64{1e12 / ns, ns}, nil
	}
}

// TestBenchfmt reads a document's benchmark format with benchstat's reader.
func TestBenchfmt(t *testing.T) {
	d := document(t)
	var text bytes.Buffer
	if err := WriteBenchfmt(&text, d); err != nil {
		t.Fatal(err)
	}
	type key struct {
		name    string
		subject string
	}
	got := map[key][]float64{}
	r := benchfmt.NewReader(&text, "bench")
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.SyntaxError:
			t.Fatal(rec)
		case *benchfmt.Result:
			k := key{string(rec.Name), rec.GetConfig("subject")}
			v := rec.Values[0]
			if v.OrigUnit != "" {
				v.Value = v.OrigValue
			}
			got[k] = append(got[k], v.Value)
			want := map[string]string{"kernel": "9.9", "kvm": "svm", "accel": "kvm", "cpu": "a CPU", "governor": "none"}
			switch k.subject {
			case "secret+bridge":
				want["backend"], want["attach"], want["peer"], want["page"] = "secret", "bridge", "none", "4096"
			case "c":
				want["backend"], want["attach"], want["peer"], want["page"] = "none", "none", "c", "unknown"
			}
			for k, v := range want {
				if rec.GetConfig(k) != v {
					t.Fatalf("%s: %s is %q, want %q", rec.Name, k, rec.GetConfig(k), v)
				}
			}
		}
	}
	values := 0
	for _, res := range d.Results {
		k := key{strings.ToUpper(res.Name[:1]) + res.Name[1:], res.Subject.String()}
		if fmt.Sprint(got[k]) != fmt.Sprint(res.Values) && len(res.Values) > 0 {
			t.Errorf("%v: %v, want %v", k, got[k], res.Values)
		}
		values += len(res.Values)
		delete(got, k)
	}
	if len(got) != 0 || values != 80 {
		t.Errorf("%d values; left over: %v", values, got)
	}
	for unit, want := range map[string]int{"ns/op": -1, "B/s": 1} {
		if better := r.Units().GetBetter(unit); better != want {
			_, tidy := benchunit.Tidy(1, unit)
			t.Errorf("%s is better %d, want %d", tidy, better, want)
		}
	}
}

// TestBenchstat runs benchstat on one run, to compare subjects, and on two.
func TestBenchstat(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("SKIPPED: benchstat is built with go, which isn't here")
	}
	dir := t.TempDir()
	file := func(name string, d *Document) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteBenchfmt(f, d); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stat := filepath.Join(dir, "benchstat")
	if out, err := exec.Command("go", "build", "-o", stat, "golang.org/x/perf/cmd/benchstat").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	once, later := file("once", document(t)), document(t)
	for i := range later.Results {
		for j := range later.Results[i].Values {
			later.Results[i].Values[j] *= 3
		}
	}
	twice := file("twice", later)
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-table", "accel", "-col", "subject", "-format", "csv", once}, []string{
			",memfd+direct,,anon+direct,,,,secret+bridge,,,,c,,,", "Two/time,", "Two/rate/4KiB,",
		}},
		{[]string{"-table", "accel,subject", "-format", "csv", once, twice}, []string{"+200.00%,p=0.000 n=10", "subject: secret+bridge"}},
		{[]string{"-table", "accel", "-col", "backend", "-format", "csv", once}, []string{",memfd,,anon,,,,secret,"}},
	} {
		out, err := exec.Command(stat, c.args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", c.args, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, out)
			}
		}
	}
}

// TestCSV checks that every line has all columns of its value.
func TestCSV(t *testing.T) {
	d := document(t)
	var text bytes.Buffer
	if err := WriteCSV(&text, d); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&text).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	heading, lines := lines[0], lines[1:]
	for _, r := range d.Results {
		for i, v := range r.Values {
			line := map[string]string{}
			for c, name := range heading {
				line[name] = lines[0][c]
			}
			lines = lines[1:]
			got, err := strconv.ParseFloat(line["value"], 64)
			if err != nil || got != v || line["sample"] != strconv.Itoa(i+1) || line["scenario"]+"/"+line["metric"] != r.Name || line["subject"] != r.Subject.String() {
				t.Fatalf("%v, want value %d of %+v", line, i, r)
			}
			for name, want := range map[string]string{
				"kernel": "9.9", "kvm": "svm", "accel": "kvm", "cpu": "a CPU", "governor": "", "unit": r.Unit,
				"backend": string(r.Backend), "attach": string(r.Attach), "peer": string(r.Peer), "status": "measured",
			} {
				if got, ok := line[name]; !ok || got != want {
					t.Fatalf("%s is %q, want %q", name, got, want)
				}
			}
			if (line["x"] == "4096") != (r.Curve != "") || (line["page_bytes"] == "4096") != (r.Backend != "") {
				t.Fatalf("%v of %+v", line, r)
			}
		}
	}
	if len(lines) != 0 {
		t.Errorf("left over: %v", lines)
	}
}

// TestWriteFails checks that a writer's error is returned.
func TestWriteFails(t *testing.T) {
	for i, write := range formats {
		if err := write(fullDisk{}, document(t)); err == nil {
			t.Errorf("format %d: no error", i)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
