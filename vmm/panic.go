package vmm

import (
	"bytes"
	"strings"
	"sync"
)

// panicMark is how the last words of a Linux kernel begin (kernel/panic.c).
const panicMark = "Kernel panic - not syncing"

// panicWatch looks for a kernel panic in what the guest sends. It does so byte by
// byte on the vCPU's thread, since a guest can reset with its next instruction. It
// keeps only the beginning of a line. A guest's userland can print the same words,
// which makes a reset a panic and harms nobody.
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

// What Linux prints before it ends the machine (kernel/reboot.c). A decompressor
// that fails halts without these words.
const (
	endMark     = "reboot: "
	wordHalt    = "System halted" // after other words where power-off isn't available
	wordRestart = "Restarting system"
)

// said reports whether word is the last of these that the kernel has printed.
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
