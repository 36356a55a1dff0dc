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
)

// avenueHead is what an avenue's section says before what it came to.
func avenueHead(a audit.Avenue) string {
	about := sentence(a.About)
	if a.Owner {
		about += " Made in the VMM's own name."
	}
	return fmt.Sprintf("\n### %s\n\n%s\n", a.Name, about)
}

// renderReasons says why attacks proved nothing, each reason once and with the
// guests that it holds for, unless that is all.
func renderReasons(b *bytes.Buffer, a audited, avenues []audit.Avenue) {
	type attack struct {
		name, why string
	}
	var order []attack
	guests := map[attack][]string{}
	for i, av := range avenues {
		for _, c := range a.Matrix {
			r := c.Avenues[i]
			if r.Verdict != audit.Skipped && r.Verdict != audit.Inconclusive {
				continue
			}
			k := attack{av.Name, fmt.Sprintf("%s: %s", r.Verdict, evidence(r.Evidence))}
			if guests[k] == nil {
				order = append(order, k)
			}
			guests[k] = append(guests[k], c.Pair.String())
		}
	}
	for i, k := range order {
		if i == 0 {
			b.WriteString("\n")
		}
		of := ""
		if len(guests[k]) < len(a.Matrix) {
			of = " (" + strings.Join(guests[k], ", ") + ")"
		}
		fmt.Fprintf(b, "- %s%s: %s\n", code(k.name), of, k.why)
	}
}

// finding is what an avenue came to on some kernels, in words that differ in
// amounts of memory only.
type finding struct{ kernels, said []string }

// renderEvidence writes what an avenue came to on the chief and its control.
func renderEvidence(b *bytes.Buffer, list []audited, avenue int) {
	fmt.Fprintf(b, "\n| kernel | %s | control |\n|---|---|---|\n", chief)
	var findings []*finding
	for _, a := range list {
		r := a.column(chief).Avenues[avenue]
		control := came(r.Control.Verdict, r.Control.Evidence)
		if r.Verdict == audit.Skipped && r.Control.Evidence == r.Evidence {
			control = "the same"
		}
		said := fmt.Sprintf("%s | %s, %s", came(r.Verdict, r.Evidence), r.Control.Backend, control)
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
	for _, f := range findings {
		kernels := strings.Join(f.kernels, ", ")
		if len(f.kernels) == len(list) {
			kernels = "all"
		}
		fmt.Fprintf(b, "| %s | %s |\n", kernels, f.together())
	}
}

// came says what an attack came to.
func came(v audit.Verdict, why string) string {
	return strong(v, string(v)) + ": " + evidence(why)
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

// evidence is an attack's evidence as a text for a table's cell.
func evidence(s string) string {
	s = strings.TrimPrefix(s, audit.ErrUnavailable.Error()+": ")
	return cellText(place.ReplaceAllString(s, ""))
}
