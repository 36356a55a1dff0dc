package bench

import (
	"context"
	"errors"
	"slices"
)

// countedSet is small, since a fault under emulation takes the better part of a
// millisecond.
const countedSet = 4 << 20

var countedWindows = []uint64{512 << 10, 1 << 20, 2 << 20, 3 << 20, 4 << 20, 6 << 20}

// windowCounts is how many faults the same work takes, which doesn't depend on
// how fast the machine is.
func windowCounts() Scenario {
	return Scenario{
		Name: "window-faults",
		Slow: true,
		About: "faults of the same work on 4 MiB, warm-up included, which say something of any machine: 8192 accesses by Zipf's law over the size of the window, " +
			"and with one of 512 KiB a touch of each page, in a random order and in sequence",
		Metrics: slices.Concat(windowCurve("zipf", "faults", countedWindows), []Metric{
			{Name: "scattered", Unit: "faults/page"}, {Name: "sequential", Unit: "faults/page"},
		}),
		Subjects: behindWindow,
		Sample: func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
			var values []float64
			count := func(r guestRun) error {
				if r.Faults == nil {
					return errors.New("a guest behind a window has no count of its faults")
				}
				values = append(values, float64(r.Faults.Count))
				return nil
			}
			for _, w := range countedWindows {
				r, _, err := runZipf(ctx, s, zipf(w, countedSet, 4096))
				if err := errors.Join(err, count(r)); err != nil {
					return nil, err
				}
			}
			for _, mode := range []uint64{churnRandom, churnSequential} {
				r, _, touched, err := runChurn(ctx, s, churn(countedWindows[0], countedSet, 2, mode))
				if err := errors.Join(err, count(r)); err != nil {
					return nil, err
				}
				values[len(values)-1] /= float64(touched)
			}
			return values, nil
		},
	}
}
