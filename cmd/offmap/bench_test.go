package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"time"

	"offmap/internal/bench"
	"offmap/memory"
	"offmap/memory/attach"
)

// fakeBench is the program with scenarios that measure nothing, for the
// scripts. They are as quick as the command itself is.
func fakeBench() {
	pairs := func(_ *bench.Env, working []bench.Subject) []bench.Subject { return working }
	benchScenarios = func() []bench.Scenario {
		return []bench.Scenario{{
			Name: "noise", About: "random figures, dearer in secret memory",
			Metrics: []bench.Metric{
				{Name: "time", Unit: "ns/op"},
				{Name: "rate/4KiB", Unit: "B/s", More: true, Curve: "working set", X: 4096, XUnit: "B"},
				{Name: "rate/1MiB", Unit: "B/s", More: true, Curve: "working set", X: 1 << 20, XUnit: "B"},
			},
			Subjects: func(_ *bench.Env, working []bench.Subject) []bench.Subject {
				return append([]bench.Subject{{Peer: bench.C}}, working...)
			},
			Sample: func(_ context.Context, _ *bench.Env, s bench.Subject) ([]float64, error) {
				t := 1234 + 10*rand.NormFloat64()
				if s.Backend == memory.Secret {
					t *= 2
				}
				return []float64{t, 1e13 / t, math.NaN()}, nil
			},
		}, {
			Name: "emulated", About: "a guest that is emulated", Metrics: []bench.Metric{{Name: "time", Unit: "sec"}}, Subjects: pairs,
			Sample: func(context.Context, *bench.Env, bench.Subject) ([]float64, error) { return nil, bench.ErrEmulated },
		}, {
			Name: "fails", About: "fails for memfd", Metrics: []bench.Metric{{Name: "time", Unit: "sec"}}, Subjects: pairs,
			Sample: func(_ context.Context, _ *bench.Env, s bench.Subject) ([]float64, error) {
				if s == (bench.Subject{Backend: memory.Memfd, Attach: attach.Direct}) {
					return nil, errors.New("out of luck")
				}
				return []float64{1}, nil
			},
		}, {
			Name: "slow", About: "sleeps for ten minutes, the third time", Slow: true, Metrics: []bench.Metric{{Name: "time", Unit: "sec"}},
			Subjects: func(_ *bench.Env, working []bench.Subject) []bench.Subject { return working[:1] },
			Sample: func() func(context.Context, *bench.Env, bench.Subject) ([]float64, error) {
				n := 0
				return func(ctx context.Context, _ *bench.Env, _ bench.Subject) ([]float64, error) {
					if n++; n < 3 {
						return []float64{1}, nil
					}
					fmt.Fprintln(os.Stderr, "asleep")
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(10 * time.Minute):
						return []float64{2}, nil
					}
				}
			}(),
		}}
	}
	os.Exit(Main(os.Args[1:]))
}
