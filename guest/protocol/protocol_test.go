package protocol

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestInfoEncode(t *testing.T) {
	got := Info{RAM: 0x1122334455, CPUs: 3, Free: []Range{{0x1000, 0x2000}, {0x1_0000_0000, 0x1_0000_3000}},
		Args: [MaxArgs]uint64{7, 0, 1 << 40}, TSC: 0x27ac40}.Encode()
	want := []byte{
		0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0,
		3, 0, 0, 0, 2, 0, 0, 0,
		7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0x40, 0xac, 0x27, 0, 0, 0, 0, 0,
		0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 1, 0, 0, 0, 0, 0x30, 0, 0, 1, 0, 0, 0,
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}

func TestParseCmdline(t *testing.T) {
	enc := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	const command = "echo '?>~' && exit 3" // has a - and a _ in base64
	for _, tt := range []struct {
		name, line string
		port       uint16
		exec       string // "-" for none
		err        string
	}{
		{name: "nothing of ours", line: "console=ttyS0 quiet\n", exec: "-"},
		{name: "both", line: "quiet offmap.port=0x6f0 offmap.exec=" + enc(command) + " x", port: 0x6f0, exec: command},
		{name: "decimal port", line: "offmap.port=1776", port: 0x6f0, exec: "-"},
		{name: "last one counts", line: "offmap.port=1 offmap.port=2", port: 2, exec: "-"},
		{name: "empty command", line: "offmap.exec=", exec: ""},
		{name: "highest port with an exit port after it", line: "offmap.port=0xfffe", port: 0xfffe, exec: "-"},
		{name: "no exit port after it", line: "offmap.port=0xffff", exec: "-", err: "offmap.port"},
		{name: "port too high", line: "offmap.port=0x10000", exec: "-", err: "offmap.port"},
		{name: "no port", line: "offmap.port", exec: "-", err: "offmap.port"},
		{name: "not base64", line: "offmap.exec=%% offmap.port=2", port: 2, exec: "-", err: "offmap.exec"},
		{name: "padded", line: "offmap.exec=YQ==", exec: "-", err: "offmap.exec"},
		{name: "our own words", line: PortWord + " " + ExecWord(command), port: EventPort, exec: command},
		{name: "port 0", line: "offmap.port=0", exec: "-", err: "offmap.port"},
		{name: "other words", line: "xoffmap.port=1 offmap.ports=2 offmap=3", exec: "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := ParseCmdline(tt.line)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			exec := "-"
			if o.Exec != nil {
				exec = *o.Exec
			}
			if o.EventPort != tt.port || tt.port != 0 && o.ExitPort != tt.port+1 || exec != tt.exec {
				t.Errorf("port %#x, exec %q; want %#x, %q", o.EventPort, exec, tt.port, tt.exec)
			}
		})
	}
}

func TestParseCmdlineDevices(t *testing.T) {
	share := ShareWord(Share{"src", false}) + " " + ShareWord(Share{"out.d-1", true})
	for _, tt := range []struct {
		line string
		want Options
		err  string
	}{
		{"quiet rw init=/bin/sh", Options{}, ""},
		{share, Options{Shares: []Share{{"src", false}, {"out.d-1", true}}}, ""},
		{"offmap.share=a,ro offmap.share=b", Options{Shares: []Share{{"b", false}}}, "offmap.share"},
		{"offmap.share=../etc", Options{}, "offmap.share"},
		{"offmap.share", Options{}, "offmap.share"},
		{"console=hvc0 console=ttyS0,115200n8r", Options{Console: "ttyS0"}, ""},
		{"root=/dev/vda", Options{Root: &Root{Source: "/dev/vda"}}, ""},
		{"root=r rootfstype=virtiofs ro rw init=/sbin/x", Options{Root: &Root{"r", "virtiofs", true, "/sbin/x"}}, ""},
	} {
		o, err := ParseCmdline(tt.line)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want one with %q", tt.line, err, tt.err)
		}
		if !reflect.DeepEqual(o, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.line, o, tt.want)
		}
	}
}

func TestCheckTag(t *testing.T) {
	for tag, ok := range map[string]bool{
		"a": true, "A-b_c.9": true, "_": true, strings.Repeat("x", 36): true, strings.Repeat("x", 37): false,
		"": false, ".": false, "..": false, "-r": false, "a/b": false, "a b": false, "a,rw": false, "\u00e4": false, "a\x00": false,
	} {
		if err := CheckTag(tag); (err == nil) != ok {
			t.Errorf("%q: %v", tag, err)
		}
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add("console=ttyS0 offmap.port=0x6f0 offmap.exec=ZXhpdCAz")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := ParseCmdline(line)
		if o.Exec != nil && err == nil && !strings.Contains(line, "offmap.exec") {
			t.Errorf("a command from %q", line)
		}
		for _, s := range o.Shares {
			if err := CheckTag(s.Tag); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	})
}

func TestParseExitsLine(t *testing.T) {
	for _, tt := range []struct {
		line string
		n    int
		took time.Duration
		ok   bool
	}{
		{"offmap: 1 exits in 1 ns", 1, 1, true},
		{"offmap: 100000000 exits in 999999999999999 ns", MaxExits, 999999999999999, true},
		{"offmap: 100000001 exits in 1 ns", 0, 0, false},
		{"offmap: 0 exits in 1 ns", 0, 0, false},
		{"offmap: 1 exits in 0 ns", 0, 0, false},
		{"offmap: 01 exits in 1 ns", 0, 0, false},
		{"offmap: 1 exits in 1000000000000000 ns", 0, 0, false},
		{"offmap: -1 exits in 1 ns", 0, 0, false},
		{"offmap: 1 exits in -1 ns", 0, 0, false},
		{"offmap: 1 exits in 1 ns\n", 0, 0, false},
		{" offmap: 1 exits in 1 ns", 0, 0, false},
		{ExitsStart(1), 0, 0, false},
		{"", 0, 0, false},
	} {
		n, took, ok := ParseExitsLine(tt.line)
		if ok != tt.ok || ok && (n != tt.n || took != tt.took) {
			t.Errorf("%q: %d, %v, %v; want %d, %v, %v", tt.line, n, took, ok, tt.n, tt.took, tt.ok)
		}
	}
}

// FuzzLines holds that a line is either read or refused as a whole.
func FuzzLines(f *testing.F) {
	f.Add(ExitsLine(20000, 611838*time.Microsecond))
	f.Add(CanaryLine(strings.Repeat("0f", 32), 4096))
	f.Add(CanaryHeldLine(5, 6))
	f.Fuzz(func(t *testing.T, line string) {
		if n, took, ok := ParseExitsLine(line); ok && (n < 1 || n > MaxExits || took <= 0 || line != ExitsLine(n, took)) {
			t.Errorf("%q: %d, %v", line, n, took)
		}
		if masked, pages, ok := ParseCanaryLine(line); ok && line != CanaryLine(masked, pages) {
			t.Errorf("%q: %q, %d", line, masked, pages)
		}
		if held, pages, ok := ParseCanaryHeldLine(line); ok && line != CanaryHeldLine(held, pages) {
			t.Errorf("%q: %d, %d", line, held, pages)
		}
	})
}

func TestCanaryLines(t *testing.T) {
	hex := strings.Repeat("0f", 32)
	if masked, pages, ok := ParseCanaryLine("offmap-canary: " + hex + " pages=12"); !ok || masked != hex || pages != 12 {
		t.Errorf("%q, %d, %v", masked, pages, ok)
	}
	if held, pages, ok := ParseCanaryHeldLine("offmap-canary: held in 3 of 12 pages"); !ok || held != 3 || pages != 12 {
		t.Errorf("%d, %d, %v", held, pages, ok)
	}
	for _, line := range []string{
		"", CanaryPlanted, "x" + CanaryLine(hex, 1), CanaryLine(hex, 1) + "0x", CanaryLine(hex, 1) + "\n",
		"offmap-canary: held in 3 of 12", CanaryHeldLine(3, 12) + "s", "offmap-canary: held in 03 of 12 pages",
	} {
		if _, _, ok := ParseCanaryLine(line); ok {
			t.Errorf("%q is taken for a canary", line)
		}
		if _, _, ok := ParseCanaryHeldLine(line); ok {
			t.Errorf("%q is taken for a count", line)
		}
	}
}
