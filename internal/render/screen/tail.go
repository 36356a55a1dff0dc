package screen

import "slices"

// Bounds of what is kept of the guest's console.
const (
	tailLines = 100
	tailWidth = 512
)

// tail keeps the last lines that a guest wrote to its console, as plain text:
// printable ASCII. A guest's control sequences would reach the map, so they are
// taken out. Carriage return, backspace and erase-line work, as shells edit
// their line with them.
type tail struct {
	lines []string // whole ones
	line  []byte   // the one being written
	at    int      // where in it the next character goes
	esc   escape
	param byte // the first of a control sequence's parameters
}

// escape is where in a control sequence the guest is.
type escape uint8

const (
	outside escape = iota
	started        // ESC
	control        // ESC [: up to a final byte
	command        // ESC ], P, X, ^ or _: up to BEL or ESC \
	charset        // ESC ( and its like: one byte
)

// Write implements io.Writer. It doesn't fail.
func (t *tail) Write(p []byte) (int, error) {
	for _, c := range p {
		t.put(c)
	}
	return len(p), nil
}

func (t *tail) put(c byte) {
	switch t.esc {
	case started:
		t.esc = outside
		switch {
		case c == '[':
			t.esc, t.param = control, 0
		case c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_':
			t.esc = command
		case c >= ' ' && c <= '/':
			t.esc = charset
		}
		return
	case control: // ECMA-48 §5.4: parameters, then a final byte from @ to ~
		switch {
		case c >= '0' && c <= '9' && t.param == 0:
			t.param = c
		case c >= '@' && c <= '~':
			t.esc = outside
			if (c == 'K' || c == 'J') && (t.param == 0 || t.param == '0') {
				t.line = t.line[:min(t.at, len(t.line))]
			}
		case c == 0x1b:
			t.esc = started
		}
		return
	case command:
		switch c {
		case '\a':
			t.esc = outside
		case 0x1b: // of ESC \, or of something new
			t.esc = started
		}
		return
	case charset:
		t.esc = outside
		return
	}
	switch {
	case c == 0x1b:
		t.esc = started
	case c == '\n':
		t.lines = append(t.lines, string(t.line))
		if n := len(t.lines) - tailLines; n > 0 {
			t.lines = slices.Delete(t.lines, 0, n)
		}
		t.line, t.at = t.line[:0], 0
	case c == '\r':
		t.at = 0
	case c == '\b':
		t.at = max(0, t.at-1)
	case c == '\t':
		for t.set(' '); t.at%8 != 0 && t.at < tailWidth; {
			t.set(' ')
		}
	case c >= ' ' && c <= '~':
		t.set(c)
	case c >= 0xc0: // the first byte of a character that isn't ASCII
		t.set('?')
	}
}

// set puts a character where the next one goes.
func (t *tail) set(c byte) {
	switch {
	case t.at >= tailWidth:
		return
	case t.at == len(t.line):
		t.line = append(t.line, c)
	default:
		t.line[t.at] = c
	}
	t.at++
}

// last returns at most n lines, the one being written included if it has
// anything.
func (t *tail) last(n int) []string {
	lines := t.lines
	if len(t.line) > 0 {
		lines = append(slices.Clone(lines), string(t.line))
	}
	return slices.Clone(lines[max(0, len(lines)-n):])
}
