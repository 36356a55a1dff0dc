package window

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// readTrace reads what trace.write wrote.
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
		t.add(uint32(last))
	}
}

func TestTrace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	want := newTrace(1<<32 - 1)
	want.add(1<<32 - 2)
	for range 10000 {
		want.add(rng.Uint32N(1 << (4 + rng.Uint32N(28))))
	}
	var file bytes.Buffer
	if err := want.write(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	got, err := readTrace(bytes.NewReader(whole))
	if err != nil || got.pages != want.pages || !slices.Equal(got.refs, want.refs) {
		t.Fatalf("read back %d references of %d pages, %v; want %d of %d, the same", len(got.refs), got.pages, err, len(want.refs), want.pages)
	}
	for _, n := range []int{0, 5, len(whole) / 2, len(whole) - 1} {
		if _, err := readTrace(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("a trace cut to %d of %d bytes was read", n, len(whole))
		}
	}
	full := errors.New("disk full")
	if err := want.write(failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("write to a full disk: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
