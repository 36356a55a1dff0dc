package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"offmap/internal/lab/debian"
	"offmap/internal/measure/probe"
	"offmap/memory/attach"
)

// tablesOf returns the cells of each of a page's tables, without the line
// below the heading.
func tablesOf(page string) (tables [][][]string) {
	in := false
	for line := range strings.Lines(page) {
		row, ok := strings.CutPrefix(strings.TrimSpace(line), "| ")
		switch {
		case strings.HasPrefix(line, "|---"):
		case !ok:
			in = false
		default:
			if !in {
				tables = append(tables, nil)
				in = true
			}
			cells := strings.Split(strings.TrimSuffix(row, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			tables[len(tables)-1] = append(tables[len(tables)-1], cells)
		}
	}
	return tables
}

// checkTables holds a page's tables to one for each setup, with the pairs that
// the code knows as rows and as many kernels as there are.
func checkTables(page string, kernels int) error {
	tables := tablesOf(page)
	if len(tables) < len(setups) {
		return fmt.Errorf("%d tables for %d setups", len(tables), len(setups))
	}
	for i, s := range setups {
		rows := tables[i][1:]
		if len(rows) != len(attach.Pairs()) {
			return fmt.Errorf("%s: %d rows, and the code knows %d pairs", s.title, len(rows), len(attach.Pairs()))
		}
		for j, p := range attach.Pairs() {
			r := rows[j]
			if len(r) != 2+kernels+1 || r[0] != string(p.Backend) || r[1] != string(p.Attach) {
				return fmt.Errorf("%s: row %q, want %s, %s and %d kernels", s.title, r, p.Backend, p.Attach, kernels)
			}
			works := 0
			for _, cell := range r[2 : len(r)-1] {
				if cell == "**works**" {
					works++
				} else if !strings.HasPrefix(cell, "doesn't work") {
					return fmt.Errorf("%s: %s, %s says %q", s.title, p.Backend, p.Attach, cell)
				}
			}
			if needs := r[len(r)-1]; (needs == "") != (works == kernels) {
				return fmt.Errorf("%s: %s, %s works on %d kernels and needs %q", s.title, p.Backend, p.Attach, works, needs)
			}
		}
	}
	return nil
}

// TestKernelsPage holds the page that is in the repository to what the code
// knows now: a new backend, attach or kernel, and it must be made again.
func TestKernelsPage(t *testing.T) {
	page, err := os.ReadFile("../../../" + kernelsPage)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTables(string(page), len(debian.KnownSeries())); err != nil {
		t.Errorf("%s: %v: run `make docs`", kernelsPage, err)
	}
	for _, table := range tablesOf(string(page))[:len(setups)] {
		for i, series := range debian.KnownSeries() {
			if !strings.HasPrefix(table[0][2+i], series+" (") {
				t.Errorf("%s: column %d is %q, want kernel %s", kernelsPage, i, table[0][2+i], series)
			}
		}
	}
}

func TestRenderKernels(t *testing.T) {
	full, bare := column{Host: "works", Doc: &probe.Document{}}, column{Host: "doesn't", Doc: &probe.Document{}}
	for i, p := range attach.Pairs() {
		full.Doc.Backends = append(full.Doc.Backends, probe.Trial{Pair: p, Works: true})
		bare.Doc.Backends = append(bare.Doc.Backends, probe.Trial{Pair: p, Reason: "no", Errno: []string{"EFAULT", ""}[i%2], Needs: "a thing"})
	}
	tables := slices.Repeat([][]column{{full, bare}}, len(setups))
	page := string(renderKernels(tables, []column{bare}))
	if err := checkTables(page, 2); err != nil {
		t.Errorf("%v in\n%s", err, page)
	}
	for _, want := range []string{"## Other hosts", "doesn't work `EFAULT` |", "doesn't work |", "| a thing |"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	less := column{Host: "less", Doc: &probe.Document{Report: probe.Report{Backends: full.Doc.Backends[1:]}}}
	if err := checkTables(string(renderKernels(slices.Repeat([][]column{{less, bare}}, len(setups)), nil)), 2); err == nil {
		t.Error("a pair that no kernel was asked about wasn't missed")
	}
}

func TestReadColumn(t *testing.T) {
	for _, c := range []struct {
		doc string
		ok  bool
	}{
		{`{"schema":"offmap/doctor/v1","host":{"kernel":"6.18.0","kvm":"vmx"},"backends":[]}`, true},
		{`{"schema":"offmap/run/v1"}`, false},
		{`{"schema":`, false},
		{``, false},
	} {
		got, err := readColumn([]byte(c.doc))
		if (err == nil) != c.ok || c.ok && got.Host != "6.18.0, vmx" {
			t.Errorf("%q: %+v, %v", c.doc, got, err)
		}
	}
}
