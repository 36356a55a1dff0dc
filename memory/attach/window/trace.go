package window

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"io"
)

// traceMagic begins a trace, inside its compression. After it come the number
// of pages of the guest, as an unsigned varint (encoding/binary), and for each
// reference to a page how far it is from the one before, as a signed varint,
// the first from page 0. The file is one gzip stream, whose checksum and end
// tell that all of it is there.
const traceMagic = "offmap trace 1\n"

// traceMapped is how many pages are mapped at a time while a trace is made: the
// uses of these are not seen.
const traceMapped = 512

// trace is the pages of a guest in the order that it was seen to use them, for
// the comparison of policies. It is kept in memory, for a few million of them,
// and written at the end: add is called under the pager's lock.
type trace struct {
	pages uint32 // of the guest
	refs  []uint32
	last  [traceMapped]uint32 // the pages mapped last, a ring
	n     int
}

// newTrace has space for a boot of Linux without having to grow.
func newTrace(pages int) *trace {
	return &trace{pages: uint32(pages), refs: make([]uint32, 0, 1<<20)}
}

func (t *trace) add(page uint32) { t.refs = append(t.refs, page) }

// displace notes that a page was mapped, and returns the one to unmap for it.
func (t *trace) displace(page uint32) (old uint32) {
	i := t.n % traceMapped
	old, t.last[i] = t.last[i], page
	t.n++
	return old
}

// write writes the trace, compressed.
func (t *trace) write(w io.Writer) error {
	z, _ := gzip.NewWriterLevel(w, gzip.BestCompression)
	b := bufio.NewWriter(z) // keeps the first error, and Flush returns it
	b.WriteString(traceMagic)
	var v [binary.MaxVarintLen64]byte
	b.Write(v[:binary.PutUvarint(v[:], uint64(t.pages))])
	last := int64(0)
	for _, p := range t.refs {
		b.Write(v[:binary.PutVarint(v[:], int64(p)-last)])
		last = int64(p)
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return z.Close()
}
