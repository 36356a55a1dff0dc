package exposuremap

import (
	"time"

	"offmap/memory"
	"offmap/vmm"
)

// Recorder makes a Trace of what it sees. It implements Viewer.
//
// Its memory is bounded. When it has MaxSamples samples, it drops every second one
// and from then on takes half as many. It always keeps the first and the last.
type Recorder struct {
	trace  Trace
	stride int     // every so many looks one is kept
	looks  int     // until the next that is kept
	last   *Sample // the latest, where it wasn't kept
	peak   uint64  // ordinary memory that is swapped out was exposed
}

// NewRecorder returns a recorder of the guest that head describes: a Trace without
// samples. interval is the time between two looks.
func NewRecorder(head Trace, interval time.Duration) *Recorder {
	r := &Recorder{trace: head, stride: 1}
	r.trace.Schema = Schema
	r.trace.CellBytes = perCell(head.Memory/memory.PageSize) * memory.PageSize
	r.trace.Interval = milliseconds(interval)
	return r
}

// See implements Viewer.
func (r *Recorder) See(l vmm.Look, pages []memory.PageState) {
	s := SampleOf(l, pages)
	r.peak = max(r.peak, s.ExposedPeak)
	s.ExposedPeak = r.peak
	if l.ToUserland > 0 && r.trace.ToUserland == nil {
		ms := milliseconds(l.ToUserland)
		r.trace.ToUserland = &ms
	}
	if r.last = &s; r.looks > 0 {
		r.looks--
		return
	}
	r.looks = r.stride - 1
	r.keep(s)
}

// SampleOf makes a sample of a look at a guest's pages.
func SampleOf(l vmm.Look, pages []memory.PageState) Sample {
	var bytes [256]uint64 // by state; so large, it needs no bounds check
	for _, p := range pages {
		bytes[p] += memory.PageSize
	}
	return Sample{
		MS:        milliseconds(l.At),
		Untouched: bytes[memory.Untouched], Hidden: bytes[memory.Hidden],
		InWindow: bytes[memory.InWindow], Ordinary: bytes[memory.Ordinary],
		ExposedPeak: l.ExposedPeak, Faults: l.Faults, Exits: l.Exits,
		Map: Cells(nil, pages, int(perCell(uint64(len(pages))))),
	}
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

// Trace returns what was recorded until now. It stays the recorder's.
func (r *Recorder) Trace() *Trace {
	if r.last != nil {
		r.trace.Samples = append(r.trace.Samples, *r.last)
		r.last = nil
	}
	return &r.trace
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
