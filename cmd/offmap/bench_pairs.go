package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/kvm"
	"offmap/memory"
)

// choosePairs finds the pairs that are asked for by name, or all.
func choosePairs(asked []string) (list []probe.Pair, err error) {
	all := probe.Pairs()
	if len(asked) == 0 {
		return all, nil
	}
	chosen := make([]bool, len(all))
	for _, name := range asked {
		b, m, pair := strings.Cut(name, "+")
		if _, err := memory.ParseBackend(b); err != nil {
			return nil, exitWith(exitcode.Usage, err)
		}
		found := false
		for i, p := range all {
			if string(p.Backend) == b && (!pair || string(p.Attach) == m) {
				chosen[i], found = true, true
			}
		}
		if !found {
			return nil, usage("no pair %q: attach %q is not for %s memory", name, m, b)
		}
	}
	for i, p := range all {
		if chosen[i] {
			list = append(list, p)
		}
	}
	return list, nil
}

// tryPairs runs a small guest with each pair. What doesn't work is missing, and
// says whether it was asked for: secret is, by that name, if none of its attaches
// works.
func tryPairs(ctx context.Context, wanted []probe.Pair, asked []string) (working []bench.Subject, missing []bench.Unavailable, err error) {
	sys, err := kvm.Open("")
	if err != nil {
		return nil, nil, err
	}
	sys.Close()
	for _, p := range wanted {
		t := p.Try(ctx, "")
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case t.Works:
			working = append(working, bench.Subject{Backend: p.Backend, Attach: p.Attach})
		default:
			missing = append(missing, bench.Unavailable{Backend: p.Backend, Attach: p.Attach, Reason: t.Reason})
		}
	}
	for i := range missing {
		m := &missing[i]
		pair := string(m.Backend) + "+" + string(m.Attach)
		m.Asked = slices.Contains(asked, pair) || slices.Contains(asked, string(m.Backend)) &&
			!slices.ContainsFunc(working, func(s bench.Subject) bool { return s.Backend == m.Backend })
		level := slog.LevelInfo
		if m.Asked {
			level = slog.LevelWarn
		}
		slog.Log(ctx, level, fmt.Sprintf("not %s: %s", pair, oneLine(m.Reason)))
	}
	if len(working) == 0 {
		return nil, nil, exitWith(exitcode.Cannot, errors.New("nothing to measure: no guest runs here in the memory that is asked for"))
	}
	return working, missing, nil
}
