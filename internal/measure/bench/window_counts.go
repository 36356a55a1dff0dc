package bench

import (
	"context"
	"errors"
	"slices"
)

// countedSet is the working set in bytes. It is small, because a fault under
// emulation takes most of a millisecond.
const countedSet = 4 << 20

var countedWindows = []uint64{512 << 10, 1 << 20, 2 << 20, 3 << 20, 4 << 20, 6 << 20}

// windowCounts counts the faults of the same work, which don't depend on the speed
// of the machine.
func windowCounts() Scenario {
	return Scenario{
		Name: "window-faults",
		Slow: true,
		About: "faults of the same work on 4 MiB, warm-up included, which don't depend on the machine's speed: 8192 accesses by Zipf's law, by the size of the window, " +
			"and, behind one of 512 KiB, an access to each page in random order and in sequence",
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
