package vmm

import (
	"bytes"
	"strings"
	"sync"
)

// panicMark is how the last words of a Linux kernel begin (kernel/panic.c).
const panicMark = "Kernel panic - not syncing"

// silentPanic is the detail of a panic of which no console has shown anything.
const silentPanic = "it printed no reason on its console"

// panicWatch knows whether the guest's kernel has panicked. The panic device says
// so, if the guest has its driver. The console says so too, and why: panicWatch looks
// for the words in what the guest sends, byte by byte and before the guest goes on,
// since a guest can reset with its next instruction. It keeps only the beginning of a
// line of each console, the serial port and virtio consoles. A guest's userland can
// print the same words, which makes a reset a panic and harms nobody.
//
// A panic doesn't end the machine. Linux uses the panic device before the end of its
// panic: it may still print, dump its log, or start a crash kernel. So the machine
// goes on until the guest resets or halts, or is stopped, and that is then a panic.
type panicWatch struct {
	mu     sync.Mutex
	lines  []*line // of the consoles
	hit    string
	end    string // wordHalt or wordRestart, whichever the kernel said last
	device bool   // the panic device has been used
}

// line is the line that the guest sends to a console at the moment.
type line struct {
	b [256]byte
	n int // bytes of b
}

// told is called when the guest uses the panic device.
func (w *panicWatch) told() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.device = true
}

// console returns a function that takes the bytes that the guest sends to one console.
func (w *panicWatch) console() (sent func(byte)) {
	l := &line{}
	w.mu.Lock()
	w.lines = append(w.lines, l)
	w.mu.Unlock()
	return func(b byte) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case b == '\n':
			w.hit = w.first()
			w.end = w.lastEnd()
			l.n = 0
		case l.n < len(l.b):
			l.b[l.n] = b
			l.n++
		}
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
	for _, l := range w.lines {
		if _, text, ok := bytes.Cut(l.b[:l.n], []byte(endMark)); ok {
			for _, word := range [...]string{wordHalt, wordRestart} {
				if bytes.Contains(text, []byte(word)) {
					return word
				}
			}
		}
	}
	return w.end
}

// first is the first panic's line so far, or "".
func (w *panicWatch) first() string {
	for _, l := range w.lines {
		if i := bytes.Index(l.b[:l.n], []byte(panicMark)); i >= 0 && w.hit == "" {
			return strings.TrimSpace(strings.ToValidUTF8(string(l.b[i:l.n]), "?"))
		}
	}
	return w.hit
}

// seen reports whether the kernel has panicked, and returns its line about that. The
// line that the guest is sending counts too: it may be the last.
func (w *panicWatch) seen() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hit := w.first()
	if hit == "" && w.device {
		return silentPanic, true
	}
	return hit, hit != ""
}
