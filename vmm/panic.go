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
	end  string // wordHalt or wordRestart, whichever the kernel said last
}

// sent takes the guest's next byte.
func (w *panicWatch) sent(b byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case b == '\n':
		w.hit = w.first()
		w.end = w.lastEnd()
		w.n = 0
	case w.n < len(w.line):
		w.line[w.n] = b
		w.n++
	}
}

// What Linux says before it ends the machine, in lines that begin alike
// (kernel/reboot.c). A decompressor that fails halts too, and not like that.
const (
	endMark     = "reboot: "
	wordHalt    = "System halted" // after other words where power-off isn't available
	wordRestart = "Restarting system"
)

// said reports whether the kernel has said that it ends the machine so.
func (w *panicWatch) said(word string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastEnd() == word
}

// lastEnd is the last word of that kind so far, or "".
func (w *panicWatch) lastEnd() string {
	if _, line, ok := bytes.Cut(w.line[:w.n], []byte(endMark)); ok {
		for _, word := range [...]string{wordHalt, wordRestart} {
			if bytes.Contains(line, []byte(word)) {
				return word
			}
		}
	}
	return w.end
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
