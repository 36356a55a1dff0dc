package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"offmap/internal/bench"
)

// withBenchProgress calls work and says on stderr how far it is and how long
// it will take yet: on a line that changes where that is a terminal, otherwise
// with a line a scenario.
func withBenchProgress(work func(func(bench.Progress))) {
	if !slog.Default().Enabled(context.Background(), slog.LevelInfo) {
		work(nil)
		return
	}
	const eraseLine = "\r\x1b[K"
	if term.IsTerminal(2) {
		work(func(p bench.Progress) {
			fmt.Fprintf(os.Stderr, "%soffmap: bench: %s%s", eraseLine, describe(p), bar(p.Done))
		})
		fmt.Fprint(os.Stderr, eraseLine)
		return
	}
	last := -1
	work(func(p bench.Progress) {
		if p.Index == last {
			return
		}
		last = p.Index
		fmt.Fprintf(os.Stderr, "offmap: bench: %s (%d of %d)%s\n", p.Scenario, p.Index+1, p.Scenarios, left(p))
	})
}

// describe says what is being measured.
func describe(p bench.Progress) string {
	round := "warming up"
	if p.Round > 0 {
		round = fmt.Sprintf("round %d of %d", p.Round, max(p.Round, p.Rounds))
	}
	return fmt.Sprintf("%s, %s, %s%s", p.Scenario, round, p.Subject, left(p))
}

// left says how long a run will take yet.
func left(p bench.Progress) string {
	if p.Left < 0 {
		return ""
	}
	return fmt.Sprintf(", about %v left", p.Left.Round(time.Second))
}
