package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"offmap/internal/measure/bench/baseline"
)

// inC runs the program in C. It returns the results of the operations that are
// measured.
func (p accesses) inC(ctx context.Context, e *Env) ([]measured, error) {
	var ops []string
	for _, op := range p.ops {
		ops = append(ops, fmt.Sprintf("%s:%d:%d:%d:%d", op.kind, op.at, op.size, op.stride, op.least.Nanoseconds()))
	}
	figures, err := baseline.Run(ctx, e.Baseline, "memory", strconv.Itoa(p.cpus), strconv.FormatUint(p.size, 10), strings.Join(ops, ","))
	if err != nil {
		return nil, err
	}
	const each = 3 // start and end in nanoseconds, and units
	if len(figures) != each*p.results()*p.cpus {
		return nil, fmt.Errorf("memory of the C baseline: %d numbers for %d operations of %d threads", len(figures), p.results(), p.cpus)
	}
	var results []measured
	for ; len(figures) > 0; figures = figures[each*p.cpus:] {
		start, end, units := figures[0], figures[1], 0.0
		for f := figures[:each*p.cpus]; len(f) > 0; f = f[each:] {
			start, end, units = min(start, f[0]), max(end, f[1]), units+f[2]
		}
		results = append(results, measured{units, (end - start) / 1e9})
	}
	return results, nil
}
