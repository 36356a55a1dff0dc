package policy

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// trace is the pages of a guest in the order in which it used them.
type trace struct {
	pages uint32 // of the guest's RAM
	refs  []uint32
}

// traceMagic begins a trace file, inside its gzip compression. The number of
// the guest's pages follows as an unsigned varint (encoding/binary), then for
// each reference to a page the difference to the page before, as a signed
// varint. The first difference is to page 0.
const traceMagic = "offmap trace 1\n"

// bootTrace is a boot of Debian's 6.1 cloud kernel with 256 MiB to offmap's own
// userland, recorded in the lab by a pager that kept only the last 512 pages
// mapped: it has no reference to a page that was among them.
var bootTrace = sync.OnceValue(func() *trace {
	f, err := os.Open("testdata/boot.trace.gz")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	t, err := readTrace(f)
	if err != nil {
		panic(fmt.Errorf("%s: %w", f.Name(), err))
	}
	return t
})

func readTrace(r io.Reader) (*trace, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	b := bufio.NewReader(z)
	magic := make([]byte, len(traceMagic))
	if _, err := io.ReadFull(b, magic); err != nil || string(magic) != traceMagic {
		return nil, fmt.Errorf("not a trace: begins with %q (%v)", magic, err)
	}
	n, err := binary.ReadUvarint(b)
	if err != nil || n > 1<<32-1 {
		return nil, fmt.Errorf("number of pages %d: %v", n, err)
	}
	t := &trace{pages: uint32(n)}
	for last := int64(0); ; {
		d, err := binary.ReadVarint(b)
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reference %d: %w", len(t.refs), err)
		}
		last += d
		if last < 0 || last >= int64(n) {
			return nil, fmt.Errorf("reference %d is to page %d of %d", len(t.refs), last, n)
		}
		t.refs = append(t.refs, uint32(last))
	}
}
