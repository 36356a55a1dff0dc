package vmm

import (
	"bytes"
	"strings"
	"sync"
)

// panicMark is how the last words of a Linux kernel begin (kernel/panic.c).
const panicMark = "Kernel panic - not syncing"

// panicWatch looks for a kernel panic in what the guest sends, byte by byte on
// its vCPU's thread: a guest may reset with the next instruction. It holds no
// more than a line's beginning. A guest's userland can print the same words
// and so pass a reset off as a panic, which harms nobody.
type panicWatch struct {
	mu   sync.Mutex
	line [256]byte
	n    int // bytes of line
	hit  string
}

// sent takes the guest's next byte.
func (w *panicWatch) sent(b byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case b == '\n':
		w.hit = w.first()
		w.n = 0
	case w.n < len(w.line):
		w.line[w.n] = b
		w.n++
	}
}

// first is the first panic's line so far, or "".
func (w *panicWatch) first() string {
	line := w.line[:w.n]
	if i := bytes.Index(line, []byte(panicMark)); i >= 0 && w.hit == "" {
		return strings.TrimSpace(strings.ToValidUTF8(string(line[i:]), "?"))
	}
	return w.hit
}

// seen returns the panic's line, if there was one. The line that the guest is
// sending counts too: it may be the last.
func (w *panicWatch) seen() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hit := w.first()
	return hit, hit != ""
}
