package window

import "offmap/memory/attach/window/policy"

// traceMapped is how many pages are mapped at a time while a trace is made: the
// uses of these are not seen.
const traceMapped = 512

// trace records a guest. It is kept in memory, for a few million references,
// and written at the end: add is called under the pager's lock.
type trace struct {
	policy.Trace
	last [traceMapped]uint32 // the pages mapped last, a ring
	n    int
}

// newTrace has space for a boot of Linux without having to grow.
func newTrace(pages int) *trace {
	return &trace{Trace: policy.Trace{Pages: uint32(pages), Refs: make([]uint32, 0, 1<<20)}}
}

func (t *trace) add(page uint32) { t.Refs = append(t.Refs, page) }

// displace notes that a page was mapped, and returns the one to unmap for it.
func (t *trace) displace(page uint32) (old uint32) {
	i := t.n % traceMapped
	old, t.last[i] = t.last[i], page
	t.n++
	return old
}
