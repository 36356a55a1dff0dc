package bench

import (
	"fmt"
	"slices"
	"time"

	"offmap/guest/payload"
	"offmap/memory"
)

// The sizes in bytes of a ring's node: a cache line, or a page.
const (
	cacheLine = 64
	aPage     = memory.PageSize
)

// chaseTime is how long each ring is measured, after the same time to warm up.
const chaseTime = 5 * time.Millisecond

// latencyScenarios measure loads whose addresses depend on the load before.
func latencyScenarios() []Scenario {
	const about = "time of a load whose address is what the load before it read, round a pseudo-random ring of all "
	return []Scenario{
		memoryScenario(Scenario{
			Name: "chase", About: about + "cache lines of a working set; c is the same loop in C (quick: no windows)", Native: true,
		}, 1, 64<<20, scattered, chases(cacheLine, 4<<10, 64<<20)),
		withoutWindows(memoryScenario(Scenario{
			Name: "chase-large", About: about + "cache lines of a working set; c is the same loop in C", Native: true, Slow: true,
		}, 1, 1<<30, scattered, chases(cacheLine, 64<<20, 1<<30))),
		memoryScenario(Scenario{
			Name: "tlb", About: about + "pages of 4 KiB, one line each: how far the TLB reaches with the pages that the backend has; c is the same loop in C", Native: true, Slow: true,
		}, 1, 64<<20, scattered, chases(aPage, 16*aPage, 64<<20)),
		withoutWindows(memoryScenario(Scenario{
			Name: "tlb-large", About: about + "pages of 4 KiB, one line each; c is the same loop in C", Native: true, Slow: true,
		}, 1, 256<<20, scattered, chases(aPage, 64<<20, 256<<20))),
	}
}

// withoutWindows leaves out subjects with a window, in which large memory takes
// minutes.
func withoutWindows(sc Scenario) Scenario {
	all := sc.Subjects
	sc.Subjects = func(e *Env, working []Subject) []Subject { return all(e, unpaged(working)) }
	return sc
}

// quickSizes are the working sets of a quick run. On most processors there is one
// for the cache of each level, and one that fits in none.
var quickSizes = []uint64{16 << 10, 256 << 10, 4 << 20, 64 << 20}

// chases returns the metrics of rings from one size to another, in bytes.
func chases(stride, from, to uint64) (metrics []memoryMetric) {
	for size := from; size <= to; size *= 2 {
		m := Metric{Name: sizeName(size), Unit: "ns/op", Curve: "working set", X: float64(size), XUnit: "B"}
		if stride == aPage {
			m.Name, m.Curve, m.X, m.XUnit = countName(size/aPage), "pages", float64(size/aPage), "pages"
		}
		chase := access{kind: payload.BenchChase, size: size, stride: stride, least: chaseTime}
		metrics = append(metrics, memoryMetric{
			Metric: m,
			ops:    []access{{kind: payload.BenchLink, size: size, stride: stride}, chase, chase},
			value:  func(m measured) float64 { return m.nanoseconds(1) },
			quick:  slices.Contains(quickSizes, size),
		})
	}
	return metrics
}

// sizeName returns a size in bytes in the form 64KiB.
func sizeName(n uint64) string {
	for _, u := range []struct {
		name  string
		shift int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if n>>u.shift > 0 {
			return fmt.Sprintf("%d%s", n>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
}

// countName returns a number of pages in the form 64Ki.
func countName(n uint64) string {
	if n >= 1<<10 {
		return fmt.Sprintf("%dKi", n>>10)
	}
	return fmt.Sprint(n)
}
