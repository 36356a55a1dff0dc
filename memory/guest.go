package memory

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// PageSize is the granule of every layout and backend, in bytes.
const PageSize = 4096

// GPA is a guest-physical address in bytes.
type GPA uint64

// Add returns a+n and whether the sum is representable.
func (a GPA) Add(n uint64) (GPA, bool) {
	s := uint64(a) + n
	return GPA(s), s >= uint64(a)
}

func (a GPA) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// ErrHole is wrapped by the error of an access that is not wholly in guest RAM.
var ErrHole = errors.New("not guest RAM")

// Guest is guest RAM as devices and loaders see it. Addresses come from the
// guest and are checked: an access that touches a byte outside RAM fails with
// an error that wraps ErrHole and copies nothing. Offsets are guest-physical
// addresses. Both methods are safe for concurrent use. Against the guest's
// own stores they are not atomic, as DMA isn't.
type Guest interface {
	io.ReaderAt
	io.WriterAt
	// Layout returns the list of RAM regions.
	Layout() Layout
}

// Access is the check that every Guest makes of an access of n bytes at offset
// off: it returns the address, or an error that wraps ErrHole. op names the
// access for the error.
func (l Layout) Access(op string, off int64, n int) (GPA, error) {
	gpa := GPA(off)
	if off < 0 { // never RAM
		gpa = math.MaxUint64
	}
	if !l.Contains(gpa, uint64(n)) {
		return gpa, fmt.Errorf("%s of %d bytes at guest address %s: %w", op, n, gpa, ErrHole)
	}
	return gpa, nil
}
