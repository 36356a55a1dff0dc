package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"offmap/internal/lab/debian"
	"offmap/internal/measure/limits"
	"offmap/internal/measure/probe"
	"offmap/internal/render/table"
)

// checkLimitsPage holds a page to the limits that the code knows: their texts,
// all of them and no others. Figures aren't compared.
func checkLimitsPage(page string, known []limits.Limit) error {
	_, sections, ok := strings.Cut(page, "\n# Limit by limit\n")
	if !ok {
		return fmt.Errorf("no heading \"Limit by limit\"")
	}
	var want, got []string
	for _, l := range known {
		want = append(want, l.ID)
		for _, text := range []string{limitHead(l), limitTail(l)} {
			if !strings.Contains(sections, text) {
				return fmt.Errorf("%s: the page doesn't say %q", l.ID, text)
			}
		}
		if row := fmt.Sprintf("\n| [%s](#%s) |", l.Title, l.ID); !strings.Contains(page, row) {
			return fmt.Errorf("%s: no row %q at a glance", l.ID, row)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(sections, -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("sections %q, and the code knows %q", got, want)
	}
	for _, c := range limits.Compare() {
		row := table.Table{Groups: []table.Group{{Rows: [][]table.Cell{comparisonRow(c)}}}}
		if !strings.Contains(page, row.Markdown()) {
			return fmt.Errorf("comparison: no row for %q as the code has it", c.Point)
		}
	}
	return nil
}

func TestLimitsPage(t *testing.T) {
	page, err := os.ReadFile("../../../" + limitsPage)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkLimitsPage(string(page), limits.All()); err != nil {
		t.Errorf("%s: %v: run `make docs`", limitsPage, err)
	}
}

// TestAddTo merges surveys of one kernel.
func TestAddTo(t *testing.T) {
	yes, no := true, false
	of := func(kernel string, holds map[string]*bool) survey {
		s := survey{host: probe.Host{Kernel: kernel}, states: map[string]limits.Result{}}
		for id, h := range holds {
			s.states[id] = limits.Result{ID: id, Holds: h}
		}
		return s
	}
	var list []survey
	list = of("a", map[string]*bool{"x": nil, "y": &yes}).addTo(list)
	list = of("b", map[string]*bool{"x": &no}).addTo(list)
	list = of("a", map[string]*bool{"x": &yes, "y": &no}).addTo(list)
	if len(list) != 2 || list[0].states["x"].Holds != &yes || list[0].states["y"].Holds != &yes || list[1].states["x"].Holds != &no {
		t.Errorf("%+v", list)
	}
}

func TestRenderLimits(t *testing.T) {
	yes, no := true, false
	all := limits.All()
	s, err := readSurvey([]byte(`{"schema":"offmap/limits/v1","host":{"kernel":"6.6.6","kvm":"svm","accel":"tcg","cpus":2},"limits":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	s.name([]debian.Kernel{{Series: "6.6", Version: "6.6.6-1", Release: "6.6.6"}})
	s.states[all[0].ID] = limits.Result{ID: all[0].ID, Holds: &yes, Observed: "as said"}
	s.states[all[1].ID] = limits.Result{ID: all[1].ID, Holds: &no, Observed: "a | b"}
	s.states[all[2].ID] = limits.Result{ID: all[2].ID, Observed: limits.ErrSkipped.Error() + ": run as root"}
	page := string(renderLimits([]survey{s}))
	if err := checkLimitsPage(page, all); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"- 6.6 (6.6.6-1): Linux 6.6.6, KVM svm (tcg), CPUs: 2\n", "| 6.6 (6.6.6-1) | holds | as said |", `| 6.6 (6.6.6-1) | **NOT** | a \| b |`, "| 6.6 (6.6.6-1) | ? | run as root |", "| 6.6 (6.6.6-1) | ? | not asked |"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}

	changed := slices.Clone(all)
	changed[3].Means += " And more."
	added := all[0]
	added.ID = "new"
	for what, known := range map[string][]limits.Limit{
		"a limit more in the page": all[1:], "a limit more in the code": append(all[:len(all):len(all)], added), "another text": changed,
	} {
		if checkLimitsPage(page, known) == nil {
			t.Errorf("%s: not seen", what)
		}
	}
}

// TestName tells kernels of one series apart, and says why there is a second.
func TestName(t *testing.T) {
	known := []debian.Kernel{
		{Series: atMmap, Version: "6.1.176-1", Release: "6.1.0-50-cloud-amd64"},
		{Series: "6.1", Version: "6.1.192-2", Release: "6.1.0-56-cloud-amd64"},
	}
	for release, want := range map[string]string{"6.1.0-50-cloud-amd64": "6.1 (6.1.176-1)", "6.1.0-56-cloud-amd64": "6.1 (6.1.192-2)", "6.18": "6.18"} {
		s := survey{host: probe.Host{Kernel: release}}
		s.name(known)
		if s.title != want || strings.Contains(s.note, atMmap) != (release == known[0].Release) {
			t.Errorf("%s: title %q, note %q", release, s.title, s.note)
		}
	}
}

func TestSentence(t *testing.T) {
	for in, want := range map[string]string{
		"two pages": "Two pages.", "mmap works": "mmap works.", "mmap(2) refuses.": "mmap(2) refuses.",
		"memfd_secret is off": "memfd_secret is off.", "As said.": "As said.", "refused, or not": "Refused, or not.", "256 pages": "256 pages.",
	} {
		if got := sentence(in); got != want {
			t.Errorf("sentence(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestReadSurvey(t *testing.T) {
	for _, doc := range []string{`{"schema":"offmap/run/v1"}`, `{"schema":`, ``} {
		if _, err := readSurvey([]byte(doc)); err == nil {
			t.Errorf("%q was read", doc)
		}
	}
}
