package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"offmap/internal/measure/bench"
	"offmap/internal/measure/probe"
	"offmap/internal/process/exitcode"
	"offmap/internal/render/table"
	"offmap/kvm"
	"offmap/memory/attach"
)

// choosePairs returns the named pairs, or all if there are no names.
func choosePairs(asked []string) ([]attach.Pair, error) {
	all := attach.Pairs()
	if len(asked) == 0 {
		return all, nil
	}
	var chosen []attach.Pair
	for _, name := range asked {
		p, err := attach.Parse(name)
		if err != nil {
			return nil, exitWith(exitcode.Usage, err)
		}
		if p.Attach == attach.Auto && name == p.String() {
			return nil, usage("no pair %q: name an attach, or the backend alone", name)
		}
		of, _ := p.Pairs() // Parse has checked it
		chosen = append(chosen, of...)
	}
	return slices.DeleteFunc(all, func(p attach.Pair) bool { return !slices.Contains(chosen, p) }), nil
}

// tryPairs runs a small guest with each pair. Pairs that don't work are returned as
// missing, with a mark if they were requested. A request for secret alone marks its
// pairs only if none of its attaches works.
func tryPairs(ctx context.Context, wanted []attach.Pair, asked []string) (working []bench.Subject, missing []bench.Unavailable, err error) {
	sys, err := kvm.Open("")
	if err != nil {
		return nil, nil, err
	}
	sys.Close()
	for _, p := range wanted {
		t := probe.Try(ctx, p, "")
		switch {
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case t.Works:
			working = append(working, bench.Subject{Pair: p})
		default:
			missing = append(missing, bench.Unavailable{Subject: bench.Subject{Pair: p}, Reason: t.Reason})
		}
	}
	for i := range missing {
		m := &missing[i]
		m.Asked = slices.Contains(asked, m.String()) || slices.Contains(asked, string(m.Backend)) &&
			!slices.ContainsFunc(working, func(s bench.Subject) bool { return s.Backend == m.Backend })
		level := slog.LevelInfo
		if m.Asked {
			level = slog.LevelWarn
		}
		slog.Log(ctx, level, fmt.Sprintf("not %s: %s", m.Subject, table.OneLine(m.Reason)))
	}
	if len(working) == 0 {
		return nil, nil, exitWith(exitcode.Cannot, errors.New("nothing to measure: no guest runs here in the requested memory"))
	}
	return working, missing, nil
}
