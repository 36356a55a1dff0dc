package bench

import (
	"context"
	"errors"
	"slices"

	"offmap/memory"
	"offmap/memory/attach"
)

// sizedSet is the guest's working set in bytes.
const sizedSet = 16 << 20

var (
	sizedWindows = []uint64{1 << 20, 2 << 20, 4 << 20, 8 << 20, 12 << 20, 16 << 20, 24 << 20}
	// quickWindows are the sizes that a quick run measures.
	quickWindows = []uint64{2 << 20, 8 << 20, 24 << 20}
)

// windowSize measures the cost of an access by the size of the window.
func windowSize() Scenario {
	return Scenario{
		Name: "window-size",
		Slow: true,
		About: "the time of an access to a working set of 16 MiB, by Zipf's law or to all pages in random order, by the size of the window. Every page was used before, and as many accesses made. " +
			"memfd+direct has no window: one value for all sizes (quick: three sizes, Zipf only)",
		Metrics: slices.Concat(windowCurve("zipf", "ns/op", sizedWindows), windowCurve("random", "ns/op", sizedWindows)),
		Native:  true,
		Subjects: func(e *Env, working []Subject) []Subject {
			s := behindWindow(e, working)
			if len(s) == 0 {
				return nil
			}
			return append(s, slices.DeleteFunc(slices.Clone(working), func(s Subject) bool {
				return s != Subject{Pair: attach.Pair{Backend: memory.Memfd, Attach: attach.Direct}}
			})...)
		},
		Sample: sampleSizes,
	}
}

func sampleSizes(ctx context.Context, e *Env, s Subject) ([]float64, error) {
	n := len(sizedWindows)
	values := without(2 * n)
	var ns [2]float64 // by order
	for i, w := range sizedWindows {
		if e.Quick && !slices.Contains(quickWindows, w) {
			continue
		}
		// Without a window, one measurement is for all sizes.
		if s.Attach == attach.ViaWindow || ns[0] == 0 {
			var err error
			if ns, err = sampleSize(ctx, e, s, w); err != nil {
				return nil, err
			}
		}
		values[i] = ns[0]
		if !e.Quick {
			values[n+i] = ns[1]
		}
	}
	return values, nil
}

// sampleSize measures both orders, or in a quick run only the first.
func sampleSize(ctx context.Context, e *Env, s Subject, window uint64) (ns [2]float64, err error) {
	if s.Attach != attach.ViaWindow {
		window = 0
	}
	r, perAccess, err := runZipf(ctx, s, zipf(window, sizedSet, e.pick(4096, 16384)))
	if err != nil {
		return ns, err
	}
	if err := checkNative(r.Result); err != nil {
		return ns, err
	}
	if (r.Faults != nil) != (s.Attach == attach.ViaWindow) {
		return ns, errors.New("a guest without a window has a count of faults, or one with a window has none")
	}
	ns[0] = perAccess
	if !e.Quick {
		_, ns[1], _, err = runChurn(ctx, s, churn(window, sizedSet, 2, churnRandom))
	}
	return ns, err
}
