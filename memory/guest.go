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
// concurrent use. Against the guest's own accesses, two bytes at an even address are
// read or written at once, as the indices of virtqueues need it. Nothing larger is.
type Guest interface {
	// ReadAt copies len(p) bytes at gpa to p. It returns how many it copied,
	// and an error if these are fewer.
	ReadAt(p []byte, gpa GPA) (n int, err error)
	// WriteAt copies p to guest memory at gpa, as ReadAt does.
	WriteAt(p []byte, gpa GPA) (n int, err error)
	// Preadv reads from a file into guest memory, as preadv2(2) does: as many
	// bytes as buf has, from offset off on, with flags (RWF_*). It returns how many
	// it read, and an error if these are fewer for another reason than the end of
	// the file. For hidden memory, a file that is open with O_DIRECT is such a
	// reason: EFAULT.
	//
	// off -1 is the file's own position, and the way to read from a pipe or a
	// socket. There it makes one system call, which may read less than there is.
	//
	// No ordinary memory gets a copy of the bytes.
	Preadv(fd int, buf Ranges, off int64, flags int) (n int, err error)
	// Pwritev writes guest memory to a file, as Preadv reads.
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
