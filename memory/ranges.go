package memory

import (
	"errors"
	"fmt"
)

// ErrShort is wrapped by the error for a buffer that is too small.
var ErrShort = errors.New("buffer in guest memory too small")

// Range is guest memory: Size bytes from GPA on.
type Range struct {
	GPA  GPA
	Size uint32 // bytes
}

// Ranges are the pieces of a buffer in guest memory, in order. Pieces may be empty,
// and may overlap.
type Ranges []Range

// Size returns the number of bytes of all pieces.
func (r Ranges) Size() (n uint64) {
	for _, p := range r {
		n += uint64(p.Size)
	}
	return n
}

// Check returns an error that wraps ErrHole if a piece is not wholly in RAM. op names
// the access for the error. An empty piece may be anywhere.
func (r Ranges) Check(op string, l Layout) error {
	for _, p := range r {
		if err := l.Access(op, p.GPA, int(p.Size)); err != nil {
			return err
		}
	}
	return nil
}

// Cut splits a buffer after its first n bytes, or at its end if it is shorter. What
// it returns may share r's memory; appending to it doesn't change r. It copies the
// pieces if the cut goes through one.
func (r Ranges) Cut(n uint64) (head, tail Ranges) {
	for i, p := range r {
		switch {
		case n == 0:
			return r[:i:i], r[i:len(r):len(r)]
		case n < uint64(p.Size):
			k := uint32(n)
			head = append(r[:i:i], Range{p.GPA, k})
			tail = append(Ranges{{p.GPA + GPA(k), p.Size - k}}, r[i+1:]...)
			return head, tail
		}
		n -= uint64(p.Size)
	}
	return r[:len(r):len(r)], nil
}

// CopyOut copies the first len(p) bytes of a buffer in guest memory to p. If the
// buffer is shorter, it fails and copies nothing.
func (r Ranges) CopyOut(g Guest, p []byte) error {
	return r.copy(p, g.ReadAt)
}

// CopyIn copies p to the start of a buffer in guest memory, as CopyOut does.
func (r Ranges) CopyIn(g Guest, p []byte) error {
	return r.copy(p, g.WriteAt)
}

func (r Ranges) copy(p []byte, access func([]byte, GPA) (int, error)) error {
	if r.Size() < uint64(len(p)) {
		return fmt.Errorf("%d bytes, and %d are needed: %w", r.Size(), len(p), ErrShort)
	}
	for _, piece := range r {
		n := min(len(p), int(piece.Size))
		if _, err := access(p[:n], piece.GPA); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
