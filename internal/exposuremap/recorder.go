package exposuremap

import (
	"time"

	"offmap/memory"
	"offmap/vmm"
)

// Recorder makes a Trace of what it sees. It implements Viewer.
//
// Its memory is bounded. Where a run is longer than MaxSamples intervals, every
// second sample is dropped and from then on half as many are taken, as often as
// it takes; the first and the last always stay.
type Recorder struct {
	trace  Trace
	stride int     // every so many looks one is kept
	looks  int     // until the next that is kept
	last   *Sample // the latest, where it wasn't kept
	peak   uint64  // ordinary memory that is swapped out was exposed
}

// NewRecorder returns a recorder of a guest that head describes, which has all
// of a Trace but what the samples say. interval is from one look to the next.
func NewRecorder(head Trace, interval time.Duration) *Recorder {
	r := &Recorder{trace: head, stride: 1}
	r.trace.Schema = Schema
	r.trace.CellBytes = perCell(head.Memory/memory.PageSize) * memory.PageSize
	r.trace.Interval = milliseconds(interval)
	return r
}

// See implements Viewer.
func (r *Recorder) See(l vmm.Look, pages []memory.PageState) {
	r.peak = max(r.peak, l.ExposedPeak)
	s := Sample{MS: milliseconds(l.At), ExposedPeak: r.peak, Faults: l.Faults, Exits: l.Exits}
	var count [256]uint64 // by state
	for _, p := range pages {
		count[p] += memory.PageSize
	}
	s.Untouched, s.Hidden, s.InWindow, s.Ordinary = count[memory.Untouched], count[memory.Hidden], count[memory.InWindow], count[memory.Ordinary]
	if l.ToUserland > 0 && r.trace.ToUserland == nil {
		ms := milliseconds(l.ToUserland)
		r.trace.ToUserland = &ms
	}
	s.Map = Cells(nil, pages, int(r.trace.CellBytes/memory.PageSize))
	if r.last = &s; r.looks > 0 {
		r.looks--
		return
	}
	r.looks = r.stride - 1
	r.keep(s)
}

// keep takes a sample into the trace, with room for one more.
func (r *Recorder) keep(s Sample) {
	t := &r.trace
	t.Samples = append(t.Samples, s)
	r.last = nil
	if len(t.Samples) < MaxSamples {
		return
	}
	kept := t.Samples[:0]
	for i := 0; i < len(t.Samples); i += 2 {
		kept = append(kept, t.Samples[i])
	}
	clear(t.Samples[len(kept):]) // their maps
	t.Samples = kept
	t.Interval *= 2
	r.stride *= 2
	// The sample just taken, the last of an even number, is dropped again; the
	// next to keep is a new interval after the one before.
	r.looks = r.stride/2 - 1
	r.last = &s
}

// Trace is what was recorded until now, and the recorder's own.
func (r *Recorder) Trace() *Trace {
	if r.last != nil {
		r.trace.Samples = append(r.trace.Samples, *r.last)
		r.last = nil
	}
	return &r.trace
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
