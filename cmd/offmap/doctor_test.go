package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"offmap/internal/measure/probe"
	"offmap/internal/render/table"
	"offmap/memory"
	"offmap/memory/attach"
)

// TestPrintDoctor checks the order and the width of doctor's output.
func TestPrintDoctor(t *testing.T) {
	const fix = "sudo a-command --that is=long && must stay --on one=line --so that=it can be pasted"
	long := strings.Repeat("ein Wörtchen ", 20)
	r := probe.Report{
		Checks: []probe.Check{
			{Name: "fine-one", Status: probe.OK, Detail: long},
			{Name: "absent", Status: probe.Skip, Detail: "nothing"},
			{Name: "worse", Status: probe.Warn, Detail: "so\nso", Fix: fix},
			{Name: "broken", Status: probe.Fail, Detail: long, Fix: fix},
		},
		Backends: []probe.Trial{
			{Pair: attach.Pair{Backend: memory.Anon, Attach: attach.Direct}, Works: true},
			{Pair: attach.Pair{Backend: memory.Secret, Attach: attach.ViaBridge}, Reason: long, Errno: "ENOENT", Needs: "a module"},
		},
	}
	for _, width := range []int{0, 30, 60, 200} {
		var out bytes.Buffer
		doc := &probe.Document{Host: probe.Host{Kernel: "6.1", KVM: "svm", Accel: "kvm"}, Report: r}
		if err := printDoctor(&out, doc, memory.Secret, table.Text{Width: width}); err != nil {
			t.Fatal(err)
		}
		text, at := out.String(), 0
		for _, want := range []string{
			"Guest RAM in secret memory:\n  secret  bridge  doesn't work", "in other memory:\n  anon    direct  works\n",
			"in the way:\nfail  broken ", "fix: " + fix + "\n", "could be better:\nwarn  worse     so so\n", "fine:\nok    fine-one", "not here:\nskip  absent    nothing",
		} {
			i := strings.Index(text[at:], want)
			if i < 0 {
				t.Fatalf("width %d: no %q after what comes before it in\n%s", width, want, text)
			}
			at += i + len(want)
		}
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, "\n")
			if n := utf8.RuneCountInString(line); width >= 60 && n > width && !strings.Contains(line, "fix: ") {
				t.Errorf("width %d: a line of %d characters: %q", width, n, line)
			}
			if strings.TrimRight(line, " ") != line || strings.Contains(line, "\x1b") {
				t.Errorf("width %d: spaces at the end, or colour: %q", width, line)
			}
		}
	}
}

func TestPrintDoctorColor(t *testing.T) {
	var out bytes.Buffer
	r := probe.Report{Checks: []probe.Check{{Name: "x", Status: probe.Fail, Detail: "d", Fix: "f"}}}
	if err := printDoctor(&out, &probe.Document{Report: r}, memory.Secret, table.Text{Color: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[31mfail\x1b[0m  \x1b[31mx\x1b[0m  d\n") || !strings.Contains(out.String(), "\n         fix: f\n") {
		t.Errorf("%q", out.String())
	}
}
