package main

import (
	"strings"
	"testing"
)

func TestEscapes(t *testing.T) {
	for _, c := range []struct {
		name  string
		quit  string
		reads []string
		out   string
		stop  bool
	}{
		{"text", "", []string{"ls\r"}, "ls\r", false},
		{"stop", "", []string{"a\x01x", "never"}, "a", true},
		{"stop over two reads", "", []string{"\x01", "x"}, "", true},
		{"the key itself", "", []string{"\x01\x01"}, "\x01", false},
		{"the key itself, then x", "", []string{"\x01\x01x"}, "\x01x", false},
		{"another key", "", []string{"\x01c"}, "c", false},
		{"x alone", "", []string{"x"}, "x", false},
		{"q", "", []string{"q\x03"}, "q\x03", false},
		{"q that stops", "q\x03", []string{"a", "bq", "never"}, "ab", true},
	} {
		e := escapes{quit: c.quit}
		var out strings.Builder
		stop := false
		for _, r := range c.reads {
			if !stop {
				var p []byte
				p, stop = e.next([]byte(r))
				out.Write(p)
			}
		}
		if out.String() != c.out || stop != c.stop {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, out.String(), stop, c.out, c.stop)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint64
	}{
		{"512", 512 << 20}, {"512M", 512 << 20}, {"2G", 2 << 30}, {"2GiB", 2 << 30}, {"2gb", 2 << 30},
		{"64k", 64 << 10}, {"1T", 1 << 40}, {"4096B", 4096}, {"0", 0},
	} {
		if got, err := parseSize(c.in); uint64(got) != c.want || err != nil {
			t.Errorf("parseSize(%q) = %d, %v; want %d", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", "M", "lots", "-1", "1.5G", "1X", "1GG", "18446744073709551615", "16777216T", "0x10"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", in, got)
		}
	}
}

// FuzzParseSize checks that Set reads back what String writes.
func FuzzParseSize(f *testing.F) {
	f.Add("512M")
	f.Add("3GiB")
	f.Fuzz(func(t *testing.T, in string) {
		z, err := parseSize(in)
		if err != nil {
			return
		}
		if again, err := parseSize(z.String()); again != z || err != nil {
			t.Fatalf("%q is %d, written as %q, read as %d, %v", in, uint64(z), z.String(), uint64(again), err)
		}
	})
}
