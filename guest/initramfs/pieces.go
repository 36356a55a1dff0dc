package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"offmap/internal/regular"
)

// pieces is content that is made of others, one after the other. So a file of the host
// goes from the page cache to the guest, and isn't in the VMM's memory as a whole.
type pieces struct {
	list []piece
	text bytes.Buffer // after the last of list
	size int64        // of list
}

// piece is one of pieces. It begins at an offset of the whole.
type piece struct {
	io.ReaderAt
	at, size int64
}

// Write adds text. It never fails.
func (p *pieces) Write(b []byte) (int, error) { return p.text.Write(b) }

// add adds content of size bytes.
func (p *pieces) add(r io.ReaderAt, size int64) {
	if n := p.text.Len(); n > 0 {
		text := bytes.NewReader(bytes.Clone(p.text.Bytes()))
		p.text.Reset()
		p.add(text, int64(n))
	}
	if size > 0 {
		p.list = append(p.list, piece{r, p.size, size})
		p.size += size
	}
}

// reader returns the whole. Nothing may be added after that.
func (p *pieces) reader() *io.SectionReader {
	p.add(nil, 0)
	return io.NewSectionReader(p, 0, p.size)
}

// ReadAt implements io.ReaderAt.
func (p *pieces) ReadAt(b []byte, off int64) (n int, err error) {
	i, found := slices.BinarySearchFunc(p.list, off, func(one piece, off int64) int { return int(one.at - off) })
	if !found {
		i--
	}
	for ; len(b) > 0 && i >= 0 && i < len(p.list); i++ {
		one := p.list[i]
		from := off - one.at
		part := b[:max(0, min(int64(len(b)), one.size-from))]
		got, err := one.ReaderAt.ReadAt(part, from)
		n, off, b = n+got, off+int64(got), b[got:]
		if got < len(part) {
			return n, err
		}
	}
	if len(b) > 0 {
		return n, io.EOF
	}
	return n, nil
}

// hostFile is the content of a file of the host. The file is open only while it is
// read.
type hostFile struct {
	path string
	size int64
}

// ReadAt implements io.ReaderAt.
func (h hostFile) ReadAt(b []byte, off int64) (int, error) {
	f, info, err := regular.Open(h.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if info.Size() < h.size {
		return 0, fmt.Errorf("%s has changed: %d bytes, and there were %d", h.path, info.Size(), h.size)
	}
	return f.ReadAt(b, off)
}
