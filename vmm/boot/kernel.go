package boot

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/bobuhiro11/gokvm/bootparam"

	"offmap/memory"
)

// kernel describes a parsed image, and where it goes.
type kernel struct {
	params     *bootparam.BootParam // setup header to start from
	parts      []part
	start, end memory.GPA // RAM that it needs for itself until it has started
	entry      memory.GPA // 64-bit entry point
	initrdMax  uint64     // highest address that a byte of the initrd may have
	cmdlineMax uint64     // bytes, without the NUL
}

// part is size bytes of the image at offset, which go to at.
type part struct {
	offset, size uint64
	at           memory.GPA
}

// parseKernel tells the two formats apart.
func parseKernel(r *io.SectionReader) (*kernel, error) {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("kernel image: %w", err)
	}
	if bytes.Equal(magic[:], []byte("\x7fELF")) {
		return parseELF(r)
	}
	return parseBzImage(r)
}

// check says whether the kernel fits into RAM below top.
func (k *kernel) check(top memory.GPA) error {
	switch {
	case k.start < highStart:
		return fmt.Errorf("kernel wants to be loaded at %s, below 1 MiB", k.start)
	case k.end > top:
		return fmt.Errorf("kernel needs RAM from %s to %s to start, and there is RAM up to %s: give the guest more than %d MiB",
			k.start, k.end, top, divUp(uint64(k.end), 1<<20))
	}
	return nil
}

// load copies the kernel's parts into guest RAM.
func (k *kernel) load(g memory.Guest, r *io.SectionReader) error {
	for _, p := range k.parts {
		if err := stream(g, p.at, io.NewSectionReader(r, int64(p.offset), int64(p.size)), "kernel"); err != nil {
			return err
		}
	}
	return nil
}

// fileOf returns the file that r reads a section of, and where that begins; nil if it
// reads something else.
func fileOf(r *io.SectionReader) (f *os.File, off int64) {
	for {
		outer, start, _ := r.Outer()
		off += start
		switch outer := outer.(type) {
		case *os.File:
			return outer, off
		case *io.SectionReader:
			r = outer
		default:
			return nil, 0
		}
	}
}

// readInto reads size bytes of a file into guest RAM, less if the file ends.
func readInto(g memory.Guest, at memory.GPA, f *os.File, off, size int64) (n int64, err error) {
	for n < size {
		part := memory.Ranges{{GPA: at + memory.GPA(n), Size: uint32(min(size-n, chunk))}}
		got, err := g.Preadv(int(f.Fd()), part, off+n, 0)
		n += int64(got)
		if err != nil || got == 0 {
			return n, err
		}
	}
	return n, nil
}

// chunk is how much of an image is copied at once, in bytes.
const chunk = 256 << 10

// guestWriter writes to guest RAM from at on.
type guestWriter struct {
	g  memory.Guest
	at memory.GPA
}

func (w *guestWriter) Write(p []byte) (int, error) {
	n, err := w.g.WriteAt(p, w.at)
	w.at += memory.GPA(n)
	return n, err
}

// stream copies all of r to guest RAM at at. What is in a file is read straight into it.
func stream(g memory.Guest, at memory.GPA, r *io.SectionReader, what string) (err error) {
	var n int64
	if f, off := fileOf(r); f != nil {
		n, err = readInto(g, at, f, off, r.Size())
	} else {
		// The buffer is ordinary memory. It is cleared, so that no part of an image
		// stays in the VMM's heap.
		buffer := make([]byte, chunk)
		defer clear(buffer)
		n, err = io.CopyBuffer(&guestWriter{g, at}, r, buffer)
	}
	if err == nil && n < r.Size() {
		err = io.ErrUnexpectedEOF // the file shrank under us
	}
	if err != nil {
		return fmt.Errorf("copying the %s into guest RAM at %s: %w", what, at, err)
	}
	return nil
}
