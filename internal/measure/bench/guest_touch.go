package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"offmap/guest/payload"
	"offmap/internal/measure/bench/baseline"
	"offmap/memory"
)

const (
	// touchSize is the size in bytes of the memory that is written.
	touchSize = 32 << 20
	// touchTime is the time after which the guest stops, with however many
	// pages it has written.
	touchTime = time.Second
)

// touchScenarios measure the first write to each page of RAM. They are scenarios of
// their own, because the other ones have written the pages before.
func touchScenarios() []Scenario {
	const about = "a guest's first write to each page of 32 MiB of RAM, or to as many as it writes in a second; c is the same on a mapping without KVM"
	return []Scenario{
		firstTouch(Scenario{Name: "first-touch", About: about}, 1),
		firstTouch(Scenario{Name: "first-touch-2", About: about + "; two vCPUs, each with half of the RAM", Slow: true}, 2),
	}
}

func firstTouch(sc Scenario, cpus int) Scenario {
	sc = memoryScenario(sc, cpus, touchSize, untouched, []memoryMetric{{
		Metric: Metric{Name: "write", Unit: "ns/page"},
		ops:    []access{{kind: payload.BenchTouch, size: touchSize, least: touchTime}},
		value:  func(m measured) float64 { return m.nanoseconds(memory.PageSize) },
		quick:  true,
	}})
	sc.Subjects = func(e *Env, working []Subject) []Subject { return e.withBaseline(working, memory.Memfd, memory.Secret) }
	inGuest := sc.Sample
	sc.Sample = func(ctx context.Context, e *Env, s Subject) ([]float64, error) {
		if s.Peer != C {
			return inGuest(ctx, e, s)
		}
		figures, err := baseline.Run(ctx, e.Baseline, "touch", string(s.Backend), strconv.Itoa(touchSize), strconv.Itoa(cpus))
		if err != nil {
			return nil, err
		}
		if len(figures) != 3 {
			return nil, fmt.Errorf("touch of the C baseline: %d numbers instead of 3", len(figures))
		}
		return figures[1:2], nil // the time of a page's first write
	}
	return sc
}
