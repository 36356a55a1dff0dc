package main

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
)

// stream has the writes that reach it.
type stream struct {
	writes [][]byte
	err    error
}

func (s *stream) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.writes = append(s.writes, bytes.Clone(p))
	return len(p), nil
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", longestLine)
	for _, tt := range []struct {
		name, prefix string
		parts        []string
		want         string
	}{
		{"lines", "a | ", []string{"1\n2\n"}, "a | 1\na | 2\n"},
		{"parts", "a | ", []string{"1", "2\n3", "\n"}, "a | 12\na | 3\n"},
		{"an empty line", "a | ", []string{"\n\n"}, "a | \na | \n"},
		{"no end", "a | ", []string{"1\n2"}, "a | 1\na | 2\n"},
		{"nothing", "a | ", []string{"", ""}, ""},
		{"a long line", "a | ", []string{long[1:], "yz", "\n"}, "a | " + long[1:] + "y\na | z\n"},
		{"bytes", "a | ", []string{"\x00\xff\r\n"}, "a | \x00\xff\r\n"},
		{"without a prefix", "", []string{"1", "\n2"}, "1\n2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out stream
			l := &lines{mu: &sync.Mutex{}, to: &out, prefix: tt.prefix}
			for _, p := range tt.parts {
				if n, err := l.Write([]byte(p)); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if got := string(bytes.Join(out.writes, nil)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// TestLinesError loses a stream.
func TestLinesError(t *testing.T) {
	broken := errors.New("broken")
	l := &lines{mu: &sync.Mutex{}, to: &stream{err: broken}, prefix: "a | "}
	if _, err := l.Write([]byte("1")); err != nil {
		t.Errorf("%v before a line's end", err)
	}
	if _, err := l.Write([]byte("2\n")); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if err := l.Close(); !errors.Is(err, broken) {
		t.Errorf("%v at the end", err)
	}
}

// FuzzLines writes a text in pieces. What comes out is whole lines with the prefix, and
// the text again without them.
func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"), 3)
	f.Add(bytes.Repeat([]byte("0123456789"), longestLine/5), 7)
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		const prefix = "guest | "
		var out stream
		l := &lines{mu: &sync.Mutex{}, to: &out, prefix: prefix}
		for rest := text; len(rest) > 0; {
			n := min(len(rest), max(1, piece))
			if _, err := l.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			if rest = rest[n:]; len(l.rest) >= longestLine {
				t.Fatalf("%d bytes are kept", len(l.rest))
			}
		}
		l.Close()
		var again []byte
		for _, w := range out.writes {
			for line := range bytes.Lines(w) {
				body, ok := bytes.CutPrefix(line, []byte(prefix))
				if !ok || line[len(line)-1] != '\n' || len(body) > longestLine+1 {
					t.Fatalf("line %q", line)
				}
				again = append(again, body...)
			}
		}
		plain := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), nil) }
		if !bytes.Equal(plain(text), plain(again)) {
			t.Errorf("%q became %q", text, again)
		}
		if len(text) < longestLine && strings.TrimSuffix(string(text), "\n") != strings.TrimSuffix(string(again), "\n") {
			t.Errorf("%q became %q", text, again)
		}
	})
}
