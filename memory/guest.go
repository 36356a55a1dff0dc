package memory

import (
	"errors"
	"fmt"
)

// PageSize is the granule of every layout and backend, in bytes.
const PageSize = 4096

// GPA is a guest-physical address in bytes.
type GPA uint64

func (a GPA) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// ErrHole is wrapped by the error of an access that is not wholly in guest RAM.
var ErrHole = errors.New("not guest RAM")

// Guest is guest RAM as devices and loaders see it. Addresses come from the
// guest and are checked: an access that touches a byte outside RAM fails with
// an error that wraps ErrHole and copies nothing. Methods are safe for
// concurrent use. Against the guest's own stores they are not atomic, as DMA
// isn't.
type Guest interface {
	// ReadAt copies len(p) bytes at gpa to p. It returns how many it copied,
	// and an error if these are fewer.
	ReadAt(p []byte, gpa GPA) (n int, err error)
	// WriteAt copies p to guest memory at gpa, as ReadAt does.
	WriteAt(p []byte, gpa GPA) (n int, err error)
	// Preadv reads from a file into guest memory, as preadv2(2) does: from
	// offset off on (-1: at the file's own position), with flags (RWF_*), as
	// many bytes as buf has. It returns how many it read, which are fewer at the
	// end of the file. The kernel copies them from the page cache straight to
	// where the pages are at rest. It can't do so for a file that is open with
	// O_DIRECT: the error is EFAULT for hidden memory.
	Preadv(fd int, buf Ranges, off int64, flags int) (n int, err error)
	// Pwritev writes guest memory to a file, as pwritev2(2) does.
	Pwritev(fd int, buf Ranges, off int64, flags int) (n int, err error)
	// Layout returns the list of RAM regions.
	Layout() Layout
}

// Access is the check that every Guest makes of an access of n bytes at gpa.
// Its error wraps ErrHole. op names the access for the error.
func (l Layout) Access(op string, gpa GPA, n int) error {
	if !l.Contains(gpa, uint64(n)) {
		return fmt.Errorf("%s of %d bytes at guest address %s: %w", op, n, gpa, ErrHole)
	}
	return nil
}
