package bench

import (
	"context"
	"errors"
	"fmt"

	"offmap/memory"
)

// directMapScenarios measure how much of the direct map a backend's memory splits.
func directMapScenarios() []Scenario {
	// A large page stays split, also one that the warm-up splits, so before is
	// read before the whole run.
	before, _ := memory.ReadMeminfo() // 0 if it can't be read: Sample returns an error
	return []Scenario{{
		Name: "direct-map",
		Slow: true,
		About: "how much RAM the direct map has in pages of each size (/proc/meminfo): before the run, while 256 MiB of the backend's memory are populated (quick: 64), " +
			"and after they are freed. There is one direct map, so what one backend splits shows in the others' values too",
		Metrics: []Metric{
			{Name: "4k-before", Unit: "B"}, {Name: "2m-before", Unit: "B", More: true}, {Name: "1g-before", Unit: "B", More: true},
			{Name: "4k-during", Unit: "B"}, {Name: "2m-during", Unit: "B", More: true}, {Name: "1g-during", Unit: "B", More: true},
			{Name: "4k-after", Unit: "B"}, {Name: "2m-after", Unit: "B", More: true}, {Name: "1g-after", Unit: "B", More: true},
		},
		Subjects: secretAndControl,
		Sample: func(_ context.Context, e *Env, s Subject) ([]float64, error) {
			return sampleDirectMap(s, e.pick(64<<20, 256<<20), before)
		},
	}}
}

// secretAndControl returns secret memory, and memfd as the control.
func secretAndControl(_ *Env, working []Subject) []Subject {
	return oneEach(only(working, memory.Memfd, memory.Secret))
}

func sampleDirectMap(s Subject, size uint64, before memory.Meminfo) ([]float64, error) {
	if small, large, giant := before.DirectMap(); small+large+giant == 0 {
		return nil, fmt.Errorf("%w: /proc/meminfo has no DirectMap lines", ErrCannot)
	}
	ram, err := populated(s.Backend, size)
	if err != nil {
		return nil, err
	}
	during, err := memory.ReadMeminfo()
	if err := errors.Join(err, ram.Close()); err != nil {
		return nil, err
	}
	after, err := memory.ReadMeminfo()
	var values []float64
	for _, m := range []memory.Meminfo{before, during, after} {
		small, large, giant := m.DirectMap()
		values = append(values, float64(small), float64(large), float64(giant))
	}
	return values, err
}

// populated returns guest memory without a guest, with every page written.
func populated(b memory.Backend, size uint64) (*memory.RAM, error) {
	layout, err := memory.NewLayout(size)
	if err != nil {
		return nil, err
	}
	ram, err := memory.New(b, layout)
	if err != nil {
		return nil, cannot(err)
	}
	if err := touchPages(ram.Pointer(), size, 1); err != nil {
		return nil, errors.Join(err, ram.Close())
	}
	return ram, nil
}
