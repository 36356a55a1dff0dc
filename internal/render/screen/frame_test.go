package screen

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"offmap/internal/measure/exposuremap"
	"offmap/memory"
)

var update = flag.Bool("update", false, "write the frames of testdata anew")

// status is a guest of 64 MiB that has walked through three quarters of its RAM:
// the last of what it used is exposed, and so is one page at the end.
func status(exposed memory.PageState) Status {
	pages := make([]memory.PageState, 64<<20/memory.PageSize)
	s := Status{Title: "payload touch: 64.0 MiB of secret memory, window of 8.0 MiB", Memory: 64 << 20, Hint: "q stops the guest"}
	switch exposed {
	case memory.InWindow:
		s.Window, s.Hides = 8<<20, true
	case memory.Ordinary:
		s.Title, s.Ordinary = "debian:6.1: 64.0 MiB of anon memory, attach direct", true
	default:
		s.Title, s.Hides = "debian:6.1: 64.0 MiB of secret memory, attach bridge", true
	}
	for p := range len(pages) * 3 / 4 {
		switch {
		case exposed == memory.Ordinary:
			pages[p] = memory.Ordinary
		case exposed == memory.InWindow && p > len(pages)*5/8+100:
			pages[p] = memory.InWindow
		default:
			pages[p] = memory.Hidden
		}
	}
	if exposed != memory.Hidden {
		pages[len(pages)-1] = exposed
	}
	var count [memory.NumPageStates]uint64
	for _, p := range pages {
		count[p] += memory.PageSize
	}
	s.Sample = exposuremap.Sample{
		MS: 83456, Untouched: count[0], Hidden: count[1], InWindow: count[2], Ordinary: count[3],
		ExposedPeak: (count[2] + count[3]) + memory.PageSize, Map: exposuremap.Cells(nil, pages, 4),
	}
	s.Faults, s.Exits = 12345, 67
	for i := range 9 {
		s.Console = append(s.Console, fmt.Sprintf("line %d of what the guest says", i+1))
	}
	return s
}

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestFrames(t *testing.T) {
	for name, c := range map[string]struct {
		exposed memory.PageState
		w, h    int
		profile Profile
	}{
		"window-80x24":   {memory.InWindow, 80, 24, None},
		"window-120x40":  {memory.InWindow, 120, 40, None},
		"window-40x8":    {memory.InWindow, 40, 8, None},
		"window-39x8":    {memory.InWindow, 39, 8, None},
		"bridge-60x16":   {memory.Hidden, 60, 16, None},
		"ordinary-60x16": {memory.Ordinary, 60, 16, None},
		"disk-80x24":     {memory.Hidden, 80, 24, None},
		"disk-40x8":      {memory.Hidden, 40, 8, None},
		"window-16":      {memory.InWindow, 60, 12, Colours16},
		"window-256":     {memory.InWindow, 60, 12, Colours256},
		"window-true":    {memory.InWindow, 60, 12, TrueColour},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			s := status(c.exposed)
			if strings.HasPrefix(name, "disk-") {
				s.Transfers = []Transfer{{"disks", 123 << 20, 45.6 * (1 << 10)}, {"shares", 0, 7 << 20}}
			}
			for _, l := range Draw(s, c.w, c.h, c.profile) {
				fmt.Fprintf(&b, "%s|\n", strings.ReplaceAll(l, "\x1b", "^"))
			}
			file := filepath.Join("testdata", name+".frame")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), b.String()); d != "" {
				t.Errorf("the frame is another (-want +got); if it should be, run with -update:\n%s", d)
			}
		})
	}
}

// TestFrameFits draws frames of all sizes: each is as many lines of as many
// characters, and has no control sequences but colours.
func TestFrameFits(t *testing.T) {
	s := status(memory.InWindow)
	s.Title = strings.Repeat("a long title ", 20)
	s.Transfers = []Transfer{{"disks", 123 << 20, 4 << 40}, {"shares", 0, 7 << 20}}
	for w := 1; w < 140; w += 3 {
		for h := 1; h < 60; h++ {
			for _, p := range []Profile{None, Colours16, Colours256, TrueColour} {
				lines := Draw(s, w, h, p)
				if len(lines) != h {
					t.Fatalf("%dx%d: %d lines", w, h, len(lines))
				}
				for i, l := range lines {
					plain := sgr.ReplaceAllString(l, "")
					if n := utf8.RuneCountInString(plain); n != w || strings.ContainsAny(plain, "\x1b\n\r") || p == None && plain != l {
						t.Fatalf("%dx%d, profile %d: line %d has %d characters: %q", w, h, p, i, n, l)
					}
				}
			}
		}
	}
}

// TestOnePageIsSeen holds that a cell with one exposed page is drawn in another
// way than with none, and one with a page of memory than with none.
func TestOnePageIsSeen(t *testing.T) {
	for _, rest := range []exposuremap.Cell{0, 0x10, 0x80, 0xe0} {
		for _, p := range []Profile{None, Colours16, Colours256, TrueColour} {
			for _, letter := range []byte{InWindowLetter, OrdinaryLetter} {
				a, _ := p.look(rest, letter)
				b, _ := p.look(rest|1, letter)
				if a == b || b != letter {
					t.Errorf("profile %d: %c for %x, %c with an exposed page in it", p, a, rest, b)
				}
				if p <= Colours16 {
					continue
				}
				if without, with := p.colour(p.colourOf(rest, letter), 30), p.colour(p.colourOf(rest|1, letter), 30); without == with {
					t.Errorf("profile %d: a cell %x and one with an exposed page in it are both %s", p, rest, with)
				}
			}
			if without, with := p.colour(p.colourOf(0, 'w'), 30), p.colour(p.colourOf(0x10, 'w'), 30); p > Colours16 && without == with {
				t.Errorf("profile %d: an untouched cell and one with a hidden page are both %s", p, with)
			}
		}
	}
}

func TestDetectProfile(t *testing.T) {
	for _, c := range []struct {
		env  string
		want Profile
	}{
		{"TERM=xterm-256color COLORTERM=truecolor LANG=en_GB.UTF-8", TrueColour},
		{"TERM=xterm COLORTERM=24bit LC_CTYPE=C.utf8 LANG=C", TrueColour},
		{"TERM=tmux-256color LANG=C.UTF-8", Colours256},
		{"TERM=xterm-direct LANG=C.UTF-8", TrueColour},
		{"TERM=xterm-256color COLORTERM=truecolor LC_ALL=C LANG=C.UTF-8", Colours16},
		{"TERM=xterm-256color COLORTERM=truecolor", Colours16},
		{"TERM=linux LANG=C.UTF-8", Colours16},
		{"TERM=vt100-m", None},
		{"TERM=xterm-256color COLORTERM=truecolor LANG=C.UTF-8 NO_COLOR=1", None},
	} {
		env := map[string]string{}
		for word := range strings.FieldsSeq(c.env) {
			name, value, _ := strings.Cut(word, "=")
			env[name] = value
		}
		if got := DetectProfile(func(name string) string { return env[name] }); got != c.want {
			t.Errorf("%s: profile %d, want %d", c.env, got, c.want)
		}
	}
}

func TestNearest256(t *testing.T) {
	for c, want := range map[rgb]int{{255, 255, 255}: 231, {0, 0, 0}: 16, {255, 0, 0}: 196, {8, 8, 8}: 232, {128, 128, 128}: 244, {95, 135, 175}: 67} {
		if got := nearest256(c); got != want {
			t.Errorf("%v is %d, want %d", c, got, want)
		}
	}
}
