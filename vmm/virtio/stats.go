package virtio

import "sync/atomic"

// Stats is what a device has done, for reports.
type Stats struct {
	// ReadBytes and WrittenBytes are what the guest has read from the device,
	// and written to it: payload, without headers.
	ReadBytes    uint64 `json:"read_bytes"`
	WrittenBytes uint64 `json:"written_bytes"`
	// Requests are the requests by kind, which the device names. Kinds without
	// any are left out.
	Requests map[string]uint64 `json:"requests"`
	// Exposed and ExposedPeak are the bytes of the guest that the device holds in
	// ordinary memory (package bounce), now and at most so far. The page cache of
	// its file isn't counted.
	Exposed     uint64 `json:"exposed_bytes,omitempty"`
	ExposedPeak uint64 `json:"exposed_bytes_peak,omitempty"`
}

// Counters count what a device does. Their methods are safe for concurrent use.
type Counters struct {
	kinds         []string
	requests      []atomic.Uint64
	read, written atomic.Uint64
}

// NewCounters makes counters for requests of these kinds.
func NewCounters(kinds ...string) *Counters {
	return &Counters{kinds: kinds, requests: make([]atomic.Uint64, len(kinds))}
}

// Count counts a request of the kind with this index in NewCounters' list, and the
// bytes that the guest has read and written by it.
func (c *Counters) Count(kind int, read, written uint64) {
	c.requests[kind].Add(1)
	if read > 0 { // each of these takes as long as a look at a ring
		c.read.Add(read)
	}
	if written > 0 {
		c.written.Add(written)
	}
}

// Stats returns what was counted so far.
func (c *Counters) Stats() Stats {
	s := Stats{ReadBytes: c.read.Load(), WrittenBytes: c.written.Load(), Requests: map[string]uint64{}}
	for i, kind := range c.kinds {
		if n := c.requests[i].Load(); n > 0 {
			s.Requests[kind] = n
		}
	}
	return s
}
