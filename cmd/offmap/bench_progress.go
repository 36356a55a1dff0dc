package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"offmap/internal/measure/bench"
)

// withBenchProgress calls work and prints its progress and the time left on stderr. On
// a terminal that is one line that changes, otherwise a line for each scenario. With
// --verbose it also logs how long each scenario took.
func withBenchProgress(work func(func(bench.Progress))) {
	if !slog.Default().Enabled(context.Background(), slog.LevelInfo) {
		work(nil)
		return
	}
	const eraseLine = "\r\x1b[K"
	terminal := term.IsTerminal(2)
	var last bench.Progress
	var began time.Time
	ended := func() {
		if terminal {
			fmt.Fprint(os.Stderr, eraseLine)
		}
		if !began.IsZero() {
			slog.Debug(fmt.Sprintf("%s took %.1f s", last.Scenario, time.Since(began).Seconds()))
		}
	}
	work(func(p bench.Progress) {
		first := began.IsZero() || p.Index != last.Index
		if first {
			ended()
			began = time.Now()
		}
		last = p
		switch {
		case terminal:
			line := []rune("offmap: bench: " + describe(p) + bar(p.Done))
			if cols, _, err := term.GetSize(2); err == nil && cols > 0 { // a line that wraps can't be erased
				line = line[:min(len(line), cols-1)]
			}
			fmt.Fprint(os.Stderr, eraseLine+string(line))
		case first:
			fmt.Fprintf(os.Stderr, "offmap: bench: %s (%d of %d)%s\n", p.Scenario, p.Index+1, p.Scenarios, left(p))
		}
	})
	ended()
}

// describe describes the current measurement.
func describe(p bench.Progress) string {
	round := "warming up"
	if p.Round > 0 {
		round = fmt.Sprintf("round %d of %d", p.Round, max(p.Round, p.Rounds))
	}
	return fmt.Sprintf("%s, %s, %s%s", p.Scenario, round, p.Subject, left(p))
}

// left describes how long the run will still take.
func left(p bench.Progress) string {
	if p.Left < 0 {
		return ""
	}
	return fmt.Sprintf(", about %v left", p.Left.Round(time.Second))
}
