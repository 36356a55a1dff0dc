// Package snapshot has the kernel make the image of RAM that it would
// hibernate with, and searches that. Nothing is written to a disk, and the host
// isn't switched off. But for that time, about a second, every process and
// device of the host stands still, this process among them: so the work is
// done by a program of 550 bytes (snapshot.S), which nothing can hold up.
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

// seconds is after how long the program is ended, and the host goes on.
const seconds = 60

// Image is what there was in an image. Counts are pages of 4 KiB.
type Image struct{ Pages, Hits int }

// Error is at what the kernel refused, and how.
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

// report is what the program is given and gives back, struct report of
// snapshot.S.
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
