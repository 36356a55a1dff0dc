package boot

import (
	"bytes"
	"fmt"
	"io"

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

// chunk is the buffer that images are copied through, in bytes.
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

// stream copies all of r to guest RAM at at. The buffer is ordinary memory: it
// is cleared, so that no part of an image stays in the VMM's heap.
func stream(g memory.Guest, at memory.GPA, r *io.SectionReader, what string) error {
	buffer := make([]byte, chunk)
	defer clear(buffer)
	n, err := io.CopyBuffer(&guestWriter{g, at}, r, buffer)
	if err == nil && n < r.Size() {
		err = io.ErrUnexpectedEOF // the file shrank under us
	}
	if err != nil {
		return fmt.Errorf("copying the %s into guest RAM at %s: %w", what, at, err)
	}
	return nil
}
