package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/term"

	"offmap/internal/measure/exposuremap"
	"offmap/internal/render/screen"
)

// live is the terminal of run --live.
type live struct {
	view  *screen.View // nil before the guest runs
	out   io.Writer    // the terminal
	log   *slog.Logger // the log to restore at close
	ended sync.Once
}

// needTerminal returns an error if stdout is no terminal to draw on.
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

// Write takes the output of the guest's console. The guest runs only after open.
func (l *live) Write(p []byte) (int, error) { return l.view.Write(p) }

// open takes over the terminal that out writes to.
func (l *live) open(head exposuremap.Trace, hint string, transferred func() []screen.Transferred, out io.Writer, restore func()) exposuremap.Viewer {
	l.out = out
	l.view = screen.Open(screen.Config{
		Out:     out,
		Size:    func() (w, h int, err error) { return term.GetSize(int(os.Stdout.Fd())) },
		Profile: screen.DetectProfile(os.Getenv),
		Trace:   head, Hint: hint, Restore: restore,
	})
	// The map would overwrite the log, so the log goes to the lines below it.
	l.log = slog.Default()
	if t, ok := l.log.Handler().(*textLog); ok && term.IsTerminal(int(os.Stderr.Fd())) {
		below := *t
		below.w = l.view
		slog.SetDefault(slog.New(&below))
	}
	return l.view
}

// lastLines is the number of lines of the console that stay on the terminal.
const lastLines = 12

// close restores the terminal, and leaves the console's last lines on it.
func (l *live) close() {
	if l.view == nil {
		return
	}
	l.ended.Do(func() {
		l.view.Close()
		slog.SetDefault(l.log)
		for _, line := range l.view.Tail(lastLines) {
			fmt.Fprintln(l.out, line)
		}
	})
}
