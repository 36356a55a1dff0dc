package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"offmap/audit"
	"offmap/internal/lab/debian"
)

// checkAuditPage holds a page to the avenues that the code knows: a section
// with its text for each, a row for each in every kernel's matrix, and no
// others.
func checkAuditPage(page string, avenues []audit.Avenue, kernels int) error {
	var names, sections []string
	rows := []string{"attach", "pages planted", "*by the host*"}
	for _, owner := range []bool{false, true} {
		if owner {
			rows = append(rows, "*in the VMM's own name, which nothing keeps out*")
		}
		for _, a := range avenues {
			if a.Owner == owner {
				rows = append(rows, avenueLink(a.Name))
			}
		}
	}
	for _, a := range avenues {
		names = append(names, a.Name)
		if !strings.Contains(page, avenueHead(a)) {
			return fmt.Errorf("%s: the page doesn't say %q", a.Name, avenueHead(a))
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(page, -1) {
		sections = append(sections, m[1])
	}
	if diff := cmp.Diff(names, sections); diff != "" {
		return fmt.Errorf("sections (-code +page):\n%s", diff)
	}
	tables := tablesOf(page)
	if want := 1 + kernels + len(avenues); len(tables) != want {
		return fmt.Errorf("%d tables, want %d for %d kernels", len(tables), want, kernels)
	}
	for _, table := range tables[1 : 1+kernels] {
		var got []string
		for _, r := range table[1:] {
			got = append(got, r[0])
			if len(r) != len(table[0]) {
				return fmt.Errorf("row %q has %d cells, want %d", r[0], len(r), len(table[0]))
			}
		}
		if diff := cmp.Diff(rows, got); diff != "" {
			return fmt.Errorf("rows (-code +page):\n%s", diff)
		}
	}
	return nil
}

// TestAuditPage holds the page that is in the repository to what the code
// knows now: a new avenue or kernel, and it must be made again.
func TestAuditPage(t *testing.T) {
	page, err := os.ReadFile("../../../" + auditPage)
	if err != nil {
		t.Fatal(err)
	}
	series := debian.KnownSeries()
	if err := checkAuditPage(string(page), audit.Avenues(), len(series)); err != nil {
		t.Fatalf("%s: %v\nrun `make docs`", auditPage, err)
	}
	for i, s := range series {
		if got := tablesOf(string(page))[0][0][2+i]; !strings.HasPrefix(got, s+" (") {
			t.Errorf("%s: column %d is %q, want kernel %s", auditPage, i, got, s)
		}
	}
	if !strings.HasPrefix(string(page), auditIntro) {
		t.Errorf("%s: another introduction: run `make docs`", auditPage)
	}
}

// few are the avenues of testdata/audit.json.
var few = []audit.Avenue{
	{Name: "scan", About: "searches all RAM"},
	{Name: "theft", About: "takes it", Owner: true},
	{Name: "file", About: "has it written to a file"},
	{Name: "disk", About: "searches a disk"},
}

func smallAudit(t *testing.T) []byte {
	t.Helper()
	doc, err := os.ReadFile("testdata/audit.json")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestRenderAudits renders three kernels. The second has no window and says
// something else of an avenue, the third read more by another.
func TestRenderAudits(t *testing.T) {
	var list []audited
	for _, title := range []string{"6.6 (6.6.6-1)", "6.7 (6.7.7-1)", "6.8 (6.8.8-1)"} {
		a, err := readAudit(smallAudit(t), few)
		if err != nil {
			t.Fatal(err)
		}
		a.title = title
		list = append(list, a)
	}
	list[1].Matrix = list[1].Matrix[:2]
	list[1].column(chief).Avenues[2].Evidence = "none found, again"
	list[2].column(chief).Avenues[0].Evidence = "none found; 10.1 MiB read; in 1 file"
	page := string(renderAudits(list, few))
	if err := checkAuditPage(page, few, 3); err != nil {
		t.Error(err)
	}
	want, err := os.ReadFile("testdata/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.TrimPrefix(page, auditIntro)); diff != "" {
		t.Errorf("not testdata/audit.md (-want +got):\n%s", diff)
	}

	changed := slices.Clone(few)
	changed[1].About += ", all of it"
	taken := slices.Clone(few)
	taken[0].Owner = true
	for what, known := range map[string][]audit.Avenue{
		"an avenue more on the page": few[1:], "an avenue more in the code": append(few[:4:4], audit.Avenue{Name: "new", About: "is new"}),
		"another text": changed, "another owner": taken,
	} {
		if checkAuditPage(page, known, 3) == nil {
			t.Errorf("%s: not seen", what)
		}
	}
	if checkAuditPage(page, few, 4) == nil {
		t.Error("a kernel that isn't on the page wasn't missed")
	}
}

func TestReadAudit(t *testing.T) {
	good := string(smallAudit(t))
	for what, doc := range map[string]string{
		"other avenues": strings.ReplaceAll(good, `"disk"`, `"disc"`),
		"no bridge":     strings.ReplaceAll(good, `"attach": "bridge"`, `"attach": "direct"`),
		"no audit":      good[:len(good)/2],
	} {
		if _, err := readAudit([]byte(doc), few); err == nil {
			t.Errorf("%s: it was read", what)
		}
	}
	if _, err := readAudit([]byte(good), few); err != nil {
		t.Error(err)
	}
}
