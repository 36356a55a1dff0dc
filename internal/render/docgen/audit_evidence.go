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

// avenueHead is the beginning of an avenue's section, before the results.
func avenueHead(a audit.Avenue) string {
	about := sentence(a.About)
	if a.Owner {
		about += " Made in the VMM's own name."
	}
	return fmt.Sprintf("\n### %s\n\n%s\n", a.Name, about)
}

// finding is an avenue's result on some kernels. Each text has the result on the chief
// and, on a second line, the result on its control. The texts differ only in amounts
// of memory.
type finding struct{ kernels, said []string }

// renderEvidence writes an avenue's results on the chief and its control.
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

// came writes the result of an attack.
func came(v audit.Verdict, why string) string {
	return strong(v, string(v)) + ": " + why
}

// amount matches the amount of memory that an attack read. It differs in every run.
var amount = regexp.MustCompile(`([0-9.]+) MiB`)

// together returns the first text, with the range of each amount over all texts.
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

// place matches the path of an attack's file, which doesn't belong on the page.
var place = regexp.MustCompile(`; a file in /[^;]*`)

// evidence returns an attack's evidence on one line, without what would be the same
// all over the page and without paths of files.
func evidence(s string) string {
	s = strings.TrimPrefix(s, audit.ErrUnavailable.Error()+": ")
	return strings.Join(strings.Fields(place.ReplaceAllString(s, "")), " ")
}
