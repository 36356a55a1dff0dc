package matrix

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"offmap/internal/measure/guestrun"
	"offmap/vmm"
)

func ran(reason vmm.Reason, detail string) *guestrun.Document {
	return &guestrun.Document{Exit: guestrun.Exit{Reason: reason, Detail: detail}}
}

func TestEnded(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  End
		want Result
		text string
	}{
		{"success", End{Run: ran(vmm.PowerOff, ""), Said: "x"}, OK, "ok"},
		{"failure", End{Code: 3, Run: ran(vmm.PowerOff, ""), Said: "the command's own"}, Exit, "exit code 3"},
		{"a code like that of a panic", End{Code: 34, Run: ran(vmm.PowerOff, "")}, Exit, "exit code 34"},
		{"no such command", End{Code: 127, Run: ran(vmm.PowerOff, ""), Said: "nix: not found"}, Exit, "exit code 127: nix: not found"},
		{"signal", End{Code: 139, Run: ran(vmm.PowerOff, "")}, Signal, "SIGSEGV"},
		{"a code that is no signal's", End{Code: 255, Run: ran(vmm.PowerOff, "")}, Exit, "exit code 255"},
		{"128", End{Code: 128, Run: ran(vmm.PowerOff, "")}, Exit, "exit code 128"},
		{"panic", End{Code: 34, Run: ran(vmm.Panic, "not syncing"), Said: "x"}, Panic, "kernel panic: not syncing"},
		{"crash", End{Code: 33, Run: ran(vmm.Crash, "triple fault")}, Crash, "guest crash: triple fault"},
		{"reset", End{Code: 32, Run: ran(vmm.Reset, "")}, Reset, "guest reset"},
		{"timeout", End{Code: 124, Run: ran(vmm.Stopped, "")}, Timeout, "timeout"},
		{"cannot", End{Code: 4, Run: ran(guestrun.Refused, "no KVM")}, Cannot, "can't run: no KVM"},
		{"cannot, without a report", End{Code: 4, Said: "no kernel"}, Cannot, "can't run: no kernel"},
		{"exec failed", End{Code: 125, Said: "why"}, Failed, "failed: why"},
		{"killed", End{Code: 137, Killed: syscall.SIGKILL}, Failed, "failed: offmap exec was killed: killed"},
		{"killed after its report", End{Code: 137, Killed: syscall.SIGKILL, Run: ran(vmm.PowerOff, "")}, Failed, "failed: offmap exec was killed: killed"},
		{"success without a report", End{}, Failed, "failed: offmap exec ended with exit code 0"},
		{"stopped", End{Code: 130, Asked: true, Said: "stopped by signal: interrupt"}, Stopped, "stopped: stopped by signal: interrupt"},
		{"stopped by its end", End{Code: 143, Killed: syscall.SIGTERM, Asked: true}, Stopped, "stopped"},
		{"done in spite of a signal", End{Run: ran(vmm.PowerOff, ""), Asked: true}, OK, "ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c Cell
			c.Ended(tt.end)
			if c.Result != tt.want || c.Text() != tt.text || c.Code != tt.end.Code {
				t.Errorf("%s (code %d), %q; want %s, %q", c.Result, c.Code, c.Text(), tt.want, tt.text)
			}
			d := &Document{Cells: []Cell{{Result: OK}, c}}
			if d.OK() != (tt.want == OK) {
				t.Errorf("all is well: %t", d.OK())
			}
		})
	}
}

// decoded is a JUnit file as a reader has it.
type decoded struct {
	Suite struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Errors   int    `xml:"errors,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Cases    []struct {
			Name    string `xml:"name,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
			} `xml:"failure"`
			Out string `xml:"system-out"`
			Err string `xml:"system-err"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func decode(t *testing.T, d *Document) (got decoded) {
	t.Helper()
	var b bytes.Buffer
	if err := d.WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	dec := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	if err := dec.Decode(&got); err != nil {
		t.Fatalf("%v:\n%q", err, b.String())
	}
	if text, err := dec.Token(); err == nil && strings.TrimSpace(string(text.(xml.CharData))) != "" {
		t.Errorf("%q at the end", text)
	} else if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("no end: %v", err)
	}
	return got
}

func TestJUnit(t *testing.T) {
	d := &Document{Command: []string{"make", "<test>"}, Duration: 1500, Cells: []Cell{
		{Name: "a", Result: OK, Stdout: "1\n2\r\n"},
		{Name: "b", Result: Exit, Code: 3, Stderr: "\x1b[31m]]>&\x00\xff\ufffe\n"},
		{Name: "c", Result: Panic}, {Name: "d", Result: Cannot}, {Name: "e", Result: NotRun},
	}}
	got := decode(t, d).Suite
	if got.Name != "offmap exec make <test>" || got.Tests != 5 || got.Failures != 2 || got.Errors != 1 || got.Skipped != 1 {
		t.Errorf("%+v", got)
	}
	for i, want := range []struct{ name, out, err, failure string }{
		{"a", "1\n2\n", "", ""}, {"b", "", `\x1b[31m]]>&\x00\xff\ufffe` + "\n", "exit code 3"},
		{"c", "", "", "kernel panic"}, {"d", "", "", ""}, {"e", "", "", ""},
	} {
		c := got.Cases[i]
		failure := ""
		if c.Failure != nil {
			failure = c.Failure.Message
		}
		if c.Name != want.name || c.Out != want.out || c.Err != want.err || failure != want.failure {
			t.Errorf("%+v (failure %q), want %+v", c, failure, want)
		}
	}
}

// FuzzJUnit writes a file with whatever a guest may have printed.
func FuzzJUnit(f *testing.F) {
	f.Add("name", "]]>\x00\x1b\r\n", "\xff\ufffe\ud7ff")
	f.Add("<a b='\"&", "<![CDATA[", "\u0085\u2028\u200b")
	f.Fuzz(func(t *testing.T, name, out, detail string) {
		d := &Document{Command: []string{name}, Cells: []Cell{{Name: name, Result: Exit, Stdout: out, Stderr: out, Detail: detail}}}
		c := decode(t, d).Suite.Cases[0]
		if c.Name != text(name) || c.Out != text(out) || c.Err != text(out) || c.Failure.Message != text("exit code 0"+map[bool]string{true: ": " + detail}[detail != ""]) {
			t.Errorf("%+v", c)
		}
	})
}

func TestRead(t *testing.T) {
	d := &Document{Schema: Schema, Command: []string{"true"}, Cells: []Cell{{Name: "6.1", Result: Panic, Code: 34, Run: ran(vmm.Panic, "x")}}}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(text))
	if err != nil || len(got.Cells) != 1 || got.Cells[0].Result != Panic || got.Cells[0].Run.Exit.Detail != "x" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Read(strings.NewReader(`{"schema":"offmap/run/v1"}`)); err == nil {
		t.Error("a report of a guest is read as one of several")
	}
}
