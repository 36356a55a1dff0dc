package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"offmap/internal/lab/debian"
	"offmap/internal/process/exitcode"
)

// withProgress calls work and prints its progress on stderr. The error is why ctx has
// ended, if it has, and otherwise work's, with exit code exitcode.Cannot.
func withProgress(ctx context.Context, name string, work func(debian.Progress) error) error {
	err := showProgress(name, work)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return exitWith(exitcode.Cannot, err)
}

// showProgress calls work and prints its progress: on a terminal as one line that changes,
// otherwise as a line for each new step.
func showProgress(name string, work func(debian.Progress) error) error {
	if !term.IsTerminal(2) {
		last := ""
		return work(func(what string, _ float64) {
			if what != last {
				fmt.Fprintf(os.Stderr, "offmap: %s: %s\n", name, what)
			}
			last = what
		})
	}
	last := ""
	err := work(func(what string, done float64) {
		if last != "" && last != what {
			fmt.Fprintln(os.Stderr)
		}
		last = what
		const eraseLine = "\r\x1b[K"
		fmt.Fprintf(os.Stderr, "%soffmap: %s: %s%s", eraseLine, name, what, bar(done))
	})
	if last != "" {
		fmt.Fprintln(os.Stderr)
	}
	return err
}

// bar draws a share from 0 to 1. A negative share is unknown, and bar draws nothing.
func bar(done float64) string {
	if done < 0 {
		return ""
	}
	const width = 30
	full := min(width, int(done*width))
	return fmt.Sprintf(" [%s%s] %3.0f %%", strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*done)
}
