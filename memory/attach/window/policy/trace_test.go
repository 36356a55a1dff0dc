package policy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed" // of a recorded trace
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// traceMagic begins a trace, inside its compression. After it come the number
// of pages of the guest, as an unsigned varint (encoding/binary), and for each
// reference to a page how far it is from the one before, as a signed varint,
// the first from page 0. The file is one gzip stream, whose checksum and end
// tell that all of it is there.
const traceMagic = "offmap trace 1\n"

// Trace is the pages of a guest in the order that it was seen to use them, for
// the comparison of policies.
type Trace struct {
	Pages uint32 // of the guest
	Refs  []uint32
}

// Write writes the trace, compressed.
func (t *Trace) Write(w io.Writer) error {
	z, _ := gzip.NewWriterLevel(w, gzip.BestCompression)
	b := bufio.NewWriter(z) // keeps the first error, and Flush returns it
	b.WriteString(traceMagic)
	var v [binary.MaxVarintLen64]byte
	b.Write(v[:binary.PutUvarint(v[:], uint64(t.Pages))])
	last := int64(0)
	for _, p := range t.Refs {
		b.Write(v[:binary.PutVarint(v[:], int64(p)-last)])
		last = int64(p)
	}
	if err := b.Flush(); err != nil {
		return err
	}
	return z.Close()
}

// ReadTrace reads what Write wrote.
func ReadTrace(r io.Reader) (*Trace, error) {
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
	t := &Trace{Pages: uint32(n)}
	for last := int64(0); ; {
		d, err := binary.ReadVarint(b)
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reference %d: %w", len(t.Refs), err)
		}
		last += d
		if last < 0 || last >= int64(n) {
			return nil, fmt.Errorf("reference %d is to page %d of %d", len(t.Refs), last, n)
		}
		t.Refs = append(t.Refs, uint32(last))
	}
}

//go:embed testdata/boot.trace.gz
var boot []byte

// Boot is a boot of Debian's 6.1 cloud kernel with 256 MiB to offmap's own
// userland, as `offmap run --window-trace` recorded it in the lab.
var Boot = sync.OnceValue(func() *Trace {
	t, err := ReadTrace(bytes.NewReader(boot))
	if err != nil {
		panic("boot.trace.gz: " + err.Error()) // it is fixed at build time
	}
	return t
})
