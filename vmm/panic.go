package vmm

import (
	"bytes"
	"strings"
	"sync"
)

// panicMark is how the last words of a Linux kernel begin (kernel/panic.c).
const panicMark = "Kernel panic - not syncing"

// panicWatch looks for a kernel panic in what the guest prints. It holds no
// more than a line's beginning. A guest's userland can print the same words
// and so pass a reset off as a panic, which harms nobody.
type panicWatch struct {
	mu   sync.Mutex
	line []byte
	hit  string
}

const maxPanicLine = 256

// Write implements io.Writer; it never fails.
func (w *panicWatch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := p; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		w.line = append(w.line, line[:min(len(line), maxPanicLine-len(w.line))]...)
		if whole {
			w.check()
			w.line = w.line[:0]
		}
		rest = after
	}
	return len(p), nil
}

func (w *panicWatch) check() {
	if i := bytes.Index(w.line, []byte(panicMark)); i >= 0 && w.hit == "" {
		w.hit = strings.TrimSpace(strings.ToValidUTF8(string(w.line[i:]), "?"))
	}
}

// seen returns the panic's line, if there was one.
func (w *panicWatch) seen() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit, w.hit != ""
}
