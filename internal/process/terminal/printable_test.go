package terminal

import "testing"

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\n\ttext, größer": "plain\n\ttext, größer",
		"\x1b]0;title\x07\r":    `\x1b]0;title\a\r`,
		"\u009b31m \u202e \xff": `\u009b31m \u202e \xff`,
		"it's \"so\"":           "it's \"so\"",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
