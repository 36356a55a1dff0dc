package bench

import (
	"errors"
	"fmt"
	"time"

	"offmap/guest/payload"
	"offmap/vmm"
)

// The check of the guest's TSC against the host's clock. The guest reads its TSC
// right before and right after each mark, and the host reads its clock between the
// two. So the time between two marks by the host's clock must be between the
// shortest and the longest time by the guest's TSC.
const (
	// clockLeast is the least time between the marks: an exit takes a few
	// microseconds, and a few hundred in the lab.
	clockLeast = 100 * time.Millisecond
	// clockDrift is by how much the two may differ beyond that, as a share of
	// the time: CLOCK_MONOTONIC is slewed by up to 500 ppm (adjtimex(2)), and
	// Linux calibrates a TSC against the PIT to 500 ppm.
	clockDrift = 0.002
	// clockBlur is the most by which the shortest and the longest time may
	// differ, as a share of the time: with more, the check has no meaning. Of
	// the payload.BenchMarkings marks at either end the best counts, so that
	// one interrupted exit doesn't matter.
	clockBlur = 0.01
)

// errClock says that a guest's TSC doesn't have the frequency that KVM reports.
var errClock = errors.New("the guest's TSC and the host's clock don't agree")

// checkMarks compares the guest's marks with the host's times of them.
func checkMarks(r payload.BenchReport, host []time.Time, khz int) error {
	if len(host) != 2*payload.BenchMarkings {
		return fmt.Errorf("the guest marked %d moments instead of %d", len(host), 2*payload.BenchMarkings)
	}
	first, err := sharpest(r.First[:])
	if err != nil {
		return err
	}
	last, err := sharpest(r.Last[:])
	if err != nil {
		return err
	}
	from, to := r.First[first], r.Last[last]
	if to.Before <= from.After {
		return fmt.Errorf("%w: its last mark is not after its first", errClock)
	}
	seconds := func(cycles uint64) float64 { return float64(cycles) / (1e3 * float64(khz)) }
	short, long := seconds(to.Before-from.After), seconds(to.After-from.Before)
	took := host[payload.BenchMarkings+last].Sub(host[first]).Seconds()
	if took < short*(1-clockDrift) || took > long*(1+clockDrift) {
		return fmt.Errorf("%w: %.6f to %.6f s by the TSC at %d kHz, %.6f s by the clock", errClock, short, long, khz, took)
	}
	if long-short > clockBlur*short {
		return fmt.Errorf("the guest's TSC can't be compared with the host's clock: %.6f to %.6f s, because its vCPU was interrupted at every mark", short, long)
	}
	return nil
}

// sharpest returns the mark that took the least time.
func sharpest(marks []payload.BenchMark) (best int, err error) {
	for i, m := range marks {
		if m.After < m.Before || i > 0 && m.Before < marks[i-1].After {
			return 0, fmt.Errorf("%w: its marks go back in time", errClock)
		}
		if m.After-m.Before < marks[best].After-marks[best].Before {
			best = i
		}
	}
	return best, nil
}

// mostUnits is more than the units of any operation, and exact as a float64.
const mostUnits = 1 << 50

// judge returns the guest's results, in the order of the measured operations. The
// guest isn't trusted: values that aren't positive and finite are an error.
func (p accesses) judge(r payload.BenchReport, host []time.Time, khz int) ([]measured, error) {
	if khz <= 0 {
		return nil, fmt.Errorf("a TSC of %d kHz", khz)
	}
	if err := checkMarks(r, host, khz); err != nil {
		return nil, err
	}
	earliest, latest := r.First[0].Before, r.Last[payload.BenchMarkings-1].After
	var results []measured
	for i, op := range p.ops {
		if op.kind.Prepares() {
			continue
		}
		start, end, units := latest, earliest, uint64(0)
		for cpu, s := range r.Stretches[i] {
			if s.Start < earliest || s.End > latest || s.End <= s.Start || s.Units == 0 || s.Units > mostUnits {
				return nil, fmt.Errorf("the guest's result of %s on vCPU %d can't be: %d units from cycle %d to %d, of %d to %d",
					op.kind, cpu, s.Units, s.Start, s.End, earliest, latest)
			}
			start, end, units = min(start, s.Start), max(end, s.End), units+s.Units
		}
		results = append(results, measured{float64(units), float64(end-start) / (1e3 * float64(khz))})
	}
	return results, nil
}

// fewEmulated is the most instructions that KVM may interpret of a native guest,
// besides accesses to devices: a few on its way to user mode.
const fewEmulated = 1000

// checkNative returns an error if KVM interpreted the guest's instructions.
func checkNative(r vmm.Result) error {
	if r.Emulated == nil {
		return fmt.Errorf("%w: KVM doesn't say whether it interpreted the guest (KVM_GET_STATS_FD, Linux 5.14)", ErrCannot)
	}
	most := r.Exits["io"] + r.Exits["mmio"] + fewEmulated
	for _, d := range r.Devices { // a request takes one kick at most, and that is no exit
		for _, n := range d.Requests {
			most += n
		}
	}
	if *r.Emulated > most {
		return fmt.Errorf("%w: KVM interpreted %d of its instructions, and %d at most are accesses to devices", ErrEmulated, *r.Emulated, most)
	}
	return nil
}
