package screen

import (
	"slices"
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"one\r\ntwo\r\nthr", "one|two|thr"},
		{"\n\nx", "||x"},
		{"10 %\r20 %\r100 %", "100 %"},
		{"100 %\r20", "200 %"},                                   // what is under it stays
		{"lss\b\bs\x1b[K -l", "ls -l"},                           // a shell edits its line
		{"ls -l\r\x1b[Kdate", "date"},                            // and puts another in its place
		{"a\x1b[1;31mred\x1b[0m b", "ared b"},                    // colours
		{"x\x1b]0;title\ay", "xy"},                               // a title for the terminal
		{"x\x1b]52;c;cm0gLXJm\x1b\\y", "xy"},                     // its clipboard
		{"x\x1b[2J\x1b[1;1Hy", "xy"},                             // the whole screen
		{"x\x1bPq#0;2~\x1b\\y", "xy"},                            // graphics
		{"x\x1b(By\x1b=z\x1bc", "xyz"},                           // character sets, keypads, reset
		{"a\tb\tc", "a       b       c"},                         //
		{"caf\u00e9 \u2713 \x00\x01\x7f\x9b31m.", "caf? ? 31m."}, //
		{"\b\b\bx", "x"},
		{strings.Repeat("y", 600), strings.Repeat("y", tailWidth)},
		{"\x1b[" + strings.Repeat("1", 10000), ""},
	} {
		var tl tail
		tl.Write([]byte(c.in))
		if got := strings.Join(tl.last(10), "|"); got != c.want {
			t.Errorf("%.40q: %q, want %q", c.in, got, c.want)
		}
		var bytewise tail // and however it is cut
		for i := range len(c.in) {
			bytewise.Write([]byte{c.in[i]})
		}
		if !slices.Equal(bytewise.last(10), tl.last(10)) {
			t.Errorf("%.40q: byte by byte %q", c.in, bytewise.last(10))
		}
	}
	var tl tail
	for range 1000 {
		tl.Write([]byte("line\n"))
	}
	if n := len(tl.last(5000)); n != tailLines {
		t.Errorf("%d lines are kept, want %d", n, tailLines)
	}
	if got := tl.last(3); len(got) != 3 {
		t.Errorf("the last 3 lines are %q", got)
	}
}

// FuzzTail holds that nothing of a guest's reaches the terminal but printable
// ASCII, and not much of that.
func FuzzTail(f *testing.F) {
	f.Add([]byte("a\x1b[31mb\r\n\x1b]0;t\a\x9b\xff\t\b"))
	f.Fuzz(func(t *testing.T, p []byte) {
		var tl tail
		tl.Write(p)
		lines := tl.last(1 << 20)
		if len(lines) > tailLines+1 {
			t.Errorf("%d lines", len(lines))
		}
		for _, l := range lines {
			if len(l) > tailWidth || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q", l)
			}
		}
	})
}
