package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/term"

	"offmap/internal/exposuremap"
	"offmap/internal/exposuremap/screen"
)

// live is the terminal of run --live.
type live struct {
	view  *screen.View // nil before the guest runs
	log   *slog.Logger // to switch back to
	ended sync.Once
}

// needTerminal refuses where there is nothing to draw on.
func needTerminal() error {
	const instead = "record it with --exposure FILE and draw it with offmap report"
	if !term.IsTerminal(int(os.Stdout.Fd())) {
		return usage("--live draws on a terminal, and standard output isn't one: %s", instead)
	}
	if t := os.Getenv("TERM"); t == "" || t == "dumb" {
		return usage("--live needs a terminal whose cursor it can move, and TERM is %q: set TERM, or %s", t, instead)
	}
	return nil
}

// Write takes the guest's console. The guest doesn't run before open.
func (l *live) Write(p []byte) (int, error) { return l.view.Write(p) }

// open takes the terminal. With typing its keys are the guest's.
func (l *live) open(head exposuremap.Trace, typing bool, restore func()) exposuremap.Viewer {
	hint := ""
	switch {
	case !rawTerminal.Load():
	case typing:
		hint = "Ctrl-a x stops the guest"
	default:
		hint = "q stops the guest"
	}
	l.view = screen.Open(screen.Config{
		Out:     os.Stdout,
		Size:    func() (w, h int, err error) { return term.GetSize(int(os.Stdout.Fd())) },
		Profile: screen.DetectProfile(os.Getenv),
		Trace:   head, Hint: hint, Restore: restore,
	})
	// The log would be drawn over; it goes to the lines below the map.
	l.log = slog.Default()
	if t, ok := l.log.Handler().(*textLog); ok && term.IsTerminal(int(os.Stderr.Fd())) {
		below := *t
		below.w = l.view
		slog.SetDefault(slog.New(&below))
	}
	return l.view
}

// lastLines is how much of the console stays on the terminal in the end.
const lastLines = 12

// close gives the terminal back, and leaves the console's last lines on it.
func (l *live) close() {
	if l.view == nil {
		return
	}
	l.ended.Do(func() {
		l.view.Close()
		slog.SetDefault(l.log)
		for _, line := range l.view.Tail(lastLines) {
			fmt.Println(line)
		}
	})
}

// stopKeys has q and Ctrl-C stop a guest that nobody types to, whose console
// next is.
func stopKeys(next func([]byte) (int, error), stop func()) func([]byte) (int, error) {
	return func(p []byte) (int, error) {
		if bytes.ContainsAny(p, "q\x03") {
			stop()
		}
		return next(p)
	}
}
