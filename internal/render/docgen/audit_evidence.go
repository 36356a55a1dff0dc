package main

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"offmap/audit"
	"offmap/internal/render/table"
)

// avenueHead is what an avenue's section says before what it came to.
func avenueHead(a audit.Avenue) string {
	about := sentence(a.About)
	if a.Owner {
		about += " Made in the VMM's own name."
	}
	return fmt.Sprintf("\n### %s\n\n%s\n", a.Name, about)
}

// finding is what an avenue came to on some kernels: on the chief, and on a line
// of its own on its control. The texts differ in amounts of memory only.
type finding struct{ kernels, said []string }

// renderEvidence writes what an avenue came to on the chief and its control.
func renderEvidence(b *bytes.Buffer, list []audited, avenue int) {
	var findings []*finding
	for _, a := range list {
		r := a.column(chief).Avenues[avenue]
		control := came(r.Control.Verdict, r.Control.Evidence)
		if r.Verdict == audit.Skipped && r.Control.Evidence == r.Evidence {
			control = "the same"
		}
		said := fmt.Sprintf("%s\n%s, %s", came(r.Verdict, r.Evidence), r.Control.Backend, control)
		i := slices.IndexFunc(findings, func(f *finding) bool {
			return amount.ReplaceAllString(f.said[0], "") == amount.ReplaceAllString(said, "")
		})
		if i < 0 {
			i = len(findings)
			findings = append(findings, &finding{})
		}
		findings[i].kernels = append(findings[i].kernels, a.title)
		findings[i].said = append(findings[i].said, said)
	}
	var rows [][]table.Cell
	for _, f := range findings {
		kernels := strings.Join(f.kernels, ", ")
		if len(f.kernels) == len(list) {
			kernels = "all"
		}
		onChief, onControl, _ := strings.Cut(f.together(), "\n")
		rows = append(rows, table.Row(kernels, onChief, onControl))
	}
	b.WriteString("\n" + markdown(table.Row("kernel", chief.String(), "control"), rows))
}

// came says what an attack came to.
func came(v audit.Verdict, why string) string {
	return strong(v, string(v)) + ": " + why
}

// amount is how much memory an attack got to see, which no two runs agree on.
var amount = regexp.MustCompile(`([0-9.]+) MiB`)

// together is what was said, with the least and the most of each amount.
func (f finding) together() string {
	nth := -1
	return amount.ReplaceAllStringFunc(f.said[0], func(string) string {
		nth++
		var all []string
		for _, s := range f.said {
			all = append(all, amount.FindAllStringSubmatch(s, -1)[nth][1])
		}
		slices.SortFunc(all, func(a, b string) int {
			x, _ := strconv.ParseFloat(a, 64)
			y, _ := strconv.ParseFloat(b, 64)
			return cmp.Compare(x, y)
		})
		return strings.Join(slices.Compact([]string{all[0], all[len(all)-1]}), " to ") + " MiB"
	})
}

// place is where an attack had a file, which is somebody's own business.
var place = regexp.MustCompile(`; a file in /[^;]*`)

// evidence is an attack's evidence on one line, without what is the same all over
// the page or nobody's business.
func evidence(s string) string {
	s = strings.TrimPrefix(s, audit.ErrUnavailable.Error()+": ")
	return strings.Join(strings.Fields(place.ReplaceAllString(s, "")), " ")
}
