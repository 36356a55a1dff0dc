package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/term"
)

// rawTerminal says that the terminal is raw now.
var rawTerminal atomic.Bool

// makeRaw switches the terminal that stdin is, if it is one, to raw mode, and
// returns what switches it back. That must run on every way out; more than
// once does no harm.
func makeRaw() (restore func(), err error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return func() {}, nil
	}
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("switch the terminal to raw mode: %w", err)
	}
	rawTerminal.Store(true)
	return func() {
		rawTerminal.Store(false)
		// Nothing is left to tell if this fails: the terminal is gone.
		_ = term.Restore(fd, old)
	}, nil
}

// escape is Ctrl-a: on a terminal, with x it stops the guest, and twice it is
// itself.
const escape = 'a' - 'a' + 1

// keys passes input on to the guest until it ends, stop is asked for, or the
// guest takes no more. Only a terminal has an escape key.
func keys(in io.Reader, guest func([]byte) (int, error), stop func()) {
	filter := escapes{on: rawTerminal.Load()}
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		out, quit := filter.next(buf[:n])
		if len(out) > 0 {
			if _, err := guest(out); err != nil {
				return
			}
		}
		if quit {
			stop()
			return
		}
		if err != nil {
			return
		}
	}
}

// escapes takes the escape key's sequences out of what is typed.
type escapes struct {
	on      bool
	pending bool // the last byte was the escape
}

// next returns what is for the guest, in p's memory, and whether to stop it.
func (e *escapes) next(p []byte) (out []byte, quit bool) {
	if !e.on {
		return p, false
	}
	out = p[:0]
	for _, c := range p {
		switch {
		case e.pending && c == 'x':
			return out, true
		case !e.pending && c == escape:
			e.pending = true
			continue
		}
		e.pending = false
		out = append(out, c)
	}
	return out, false
}
