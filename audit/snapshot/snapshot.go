// Package snapshot has the kernel make the image of RAM that hibernation writes to
// disk, and searches it. It writes nothing to a disk, and the host stays on. But for
// about a second every process and device of the host stops, this process
// included: so a program of 550 bytes (snapshot.S) does the work, which is not
// frozen.
package snapshot

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"offmap/internal/process/freestanding"
)

const name = "hibernation-image"

//go:generate sh ../../internal/process/freestanding/build.sh snapshot.S

//go:embed snapshot.bin
var image []byte

// seconds is after how many seconds the program ends, and the host goes on.
const seconds = 60

// Image is the result of a search. Counts are pages of 4 KiB.
type Image struct{ Pages, Hits int }

// Error is a refusal by the kernel, and the step that it refused.
type Error struct {
	Stage Stage
	Errno syscall.Errno
}

// Stage is a step of making an image.
type Stage uint64

// The stages, as in snapshot.S.
const (
	Opening  Stage = 1 + iota // EPERM: hibernation is off, as by secret memory
	Freezing                  // EBUSY: a process that can't be frozen
	Making                    // ENOMEM: an image takes as much free memory as is in use
	Reading
	Thawing
)

func (s Stage) String() string {
	switch s {
	case Opening:
		return "opening /dev/snapshot"
	case Freezing:
		return "freezing all processes"
	case Making:
		return "making an image of RAM"
	case Reading:
		return "reading the image"
	case Thawing:
		return "having the processes go on"
	}
	return "preparing"
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %v", e.Stage, e.Errno) }

func (e *Error) Unwrap() error { return e.Errno }

// Search makes an image and counts the pages of it in which 32 bytes begin, at
// a multiple of 8, that are masked when XORed with pad. Words are those of the
// bytes in little-endian order.
//
// The context is heeded before and after the host stands still.
func Search(ctx context.Context, pad, masked [4]uint64) (Image, error) {
	if err := ctx.Err(); err != nil {
		return Image{}, err
	}
	page, err := newPage(report{Pad: pad, Masked: masked, Limit: seconds})
	if err != nil {
		return Image{}, err
	}
	defer page.Close()
	process, err := freestanding.Start(name, image, []*os.File{page}, nil)
	if err != nil {
		return Image{}, err
	}
	state, err := process.Wait()
	if err != nil {
		return Image{}, fmt.Errorf("wait for %s: %w", name, err)
	}
	var r report
	if err := binary.Read(io.NewSectionReader(page, 0, pageSize), binary.LittleEndian, &r); err != nil {
		return Image{}, fmt.Errorf("read of the report: %w", err)
	}
	switch {
	case state.ExitCode() > 0:
		return Image{}, &Error{Errno: syscall.Errno(state.ExitCode())}
	case !state.Success():
		return Image{}, fmt.Errorf("%s ended with %v, while %v", name, state, r.Stage)
	case r.Errno != 0:
		return Image{}, &Error{r.Stage, syscall.Errno(r.Errno)}
	case r.Pages == 0:
		return Image{}, errors.New("the image of RAM was empty")
	}
	return Image{Pages: int(r.Pages), Hits: int(r.Hits)}, ctx.Err()
}

const pageSize = 4096

// report is the program's argument and result, struct report of snapshot.S.
type report struct {
	Pad, Masked [4]uint64
	Limit       uint64
	Stage       Stage
	Errno       uint64
	Pages, Hits uint64
}

// newPage makes the file that the program maps.
func newPage(r report) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	page := os.NewFile(uintptr(fd), name)
	if err = page.Truncate(pageSize); err == nil {
		err = binary.Write(page, binary.LittleEndian, r)
	}
	if err != nil {
		page.Close()
		return nil, fmt.Errorf("a page for the report: %w", err)
	}
	return page, nil
}
