package exposuremap

import (
	"fmt"
	"math"
	"slices"
	"time"

	"offmap/memory"
	"offmap/memory/attach"
)

// checkHead checks all of a trace but its samples.
func (t *Trace) checkHead() error {
	if t.Schema != Schema {
		return fmt.Errorf("schema %q, want %q", t.Schema, Schema)
	}
	if _, err := time.Parse(time.RFC3339, t.Started); err != nil {
		return fmt.Errorf("started: %w", err)
	}
	if !slices.Contains(attach.Pairs(), t.Pair) {
		return fmt.Errorf("backend %q has no attach %q", string(t.Backend), string(t.Attach))
	}
	window := t.Attach == attach.ViaWindow
	switch {
	case t.Memory == 0 || t.Memory > memory.MaxSize || t.Memory%memory.PageSize != 0:
		return fmt.Errorf("guest RAM of %d bytes", t.Memory)
	case window != (t.Window > 0) || t.Window > t.Memory || t.Window%memory.PageSize != 0:
		return fmt.Errorf("a window of %d bytes with attach %s", t.Window, t.Attach)
	case t.CellBytes != perCell(t.Memory/memory.PageSize)*memory.PageSize:
		return fmt.Errorf("cells of %d bytes, in a guest of %d", t.CellBytes, t.Memory)
	case t.CPUs < 1:
		return fmt.Errorf("%d vCPUs", t.CPUs)
	case !positive(t.Interval) || t.Interval == 0:
		return fmt.Errorf("an interval of %v ms", t.Interval)
	case t.ToUserland != nil && !positive(*t.ToUserland):
		return fmt.Errorf("userland after %v ms", *t.ToUserland)
	}
	return nil
}

// positive is for numbers of JSON, which are finite.
func positive(v float64) bool { return v >= 0 && v <= math.MaxInt64 }

// checkSample checks a sample's figures against the trace and the sample before.
func (t *Trace) checkSample(last, s Sample) error {
	var sum uint64
	for _, n := range []uint64{s.Untouched, s.Hidden, s.InWindow, s.Ordinary} {
		if n > t.Memory || n%memory.PageSize != 0 {
			return fmt.Errorf("%d bytes of a guest of %d in one state", n, t.Memory)
		}
		sum += n
	}
	switch {
	case sum != t.Memory:
		return fmt.Errorf("the states add up to %d bytes, and the guest has %d", sum, t.Memory)
	case s.InWindow > t.Window:
		return fmt.Errorf("%d bytes in a window of %d", s.InWindow, t.Window)
	case s.Ordinary > 0 && !t.Backend.Exposed(), s.Hidden > 0 && t.Backend.Exposed():
		return fmt.Errorf("%d bytes ordinary and %d hidden in %s memory", s.Ordinary, s.Hidden, t.Backend)
	case s.ExposedPeak < s.Exposed() || s.ExposedPeak > t.Memory || t.Window > 0 && s.ExposedPeak > t.Window:
		return fmt.Errorf("a peak of %d bytes exposed", s.ExposedPeak)
	case !positive(s.MS) || s.MS < last.MS, s.ExposedPeak < last.ExposedPeak, s.Faults < last.Faults, s.Exits < last.Exits:
		return fmt.Errorf("the time or a counter goes back")
	}
	return nil
}

// checkMap checks that a sample's map shows exposed, hidden and untouched pages if
// and only if the sample counts some.
func checkMap(s Sample) error {
	var hidden, exposed bool
	for _, c := range s.Map {
		hidden = hidden || c.Hidden() > 0
		exposed = exposed || c.Exposed() > 0
	}
	if hidden != (s.Hidden > 0) || exposed != (s.Exposed() > 0) {
		return fmt.Errorf("the map doesn't show the %d bytes hidden and %d exposed", s.Hidden, s.Exposed())
	}
	return nil
}
