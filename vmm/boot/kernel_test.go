package boot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"offmap/memory"
)

// keeper is a guest that keeps the buffers that were written from.
type keeper struct {
	*sparse
	buffers [][]byte
}

func (k *keeper) WriteAt(p []byte, at memory.GPA) (int, error) {
	k.buffers = append(k.buffers, p)
	return k.sparse.WriteAt(p, at)
}

// TestStreamLeavesNothing holds that what an image was copied through is clear
// afterwards, also where the copying fails.
func TestStreamLeavesNothing(t *testing.T) {
	const ram = 32 << 20
	for name, at := range map[string]memory.GPA{"copied": 1 << 20, "not all of it fits": ram - chunk} {
		t.Run(name, func(t *testing.T) {
			g := &keeper{sparse: pc(t, ram)}
			image := bytes.Repeat([]byte{0xa5}, 2*chunk+100)
			err := stream(g, at, io.NewSectionReader(bytes.NewReader(image), 0, int64(len(image))), "image")
			if (err == nil) != (at == 1<<20) {
				t.Errorf("error %v", err)
			}
			if len(g.buffers) == 0 {
				t.Fatal("nothing was written")
			}
			for _, b := range g.buffers {
				if len(bytes.Trim(b, "\x00")) > 0 {
					t.Errorf("a buffer of %d bytes isn't clear", len(b))
				}
			}
		})
	}
}

// TestStreamFile reads a section of a section of a file into guest RAM. A file that
// has become shorter is an error, and so is what doesn't fit.
func TestStreamFile(t *testing.T) {
	l, err := memory.NewLayout(memory.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	g, err := memory.New(memory.Memfd, l)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	content := make([]byte, 2*chunk+pageSize)
	for i := range content {
		content[i] = byte(i / 7)
	}
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const at, skip = 1<<20 + 3, 5
	whole := io.NewSectionReader(f, 2, int64(len(content)-2))
	if err := stream(g, at, io.NewSectionReader(whole, skip-2, int64(len(content)-skip)), "image"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(content)-skip)
	if _, err := g.ReadAt(got, at); err != nil || !bytes.Equal(got, content[skip:]) {
		t.Errorf("%v, or other bytes", err)
	}
	if err := stream(g, at, io.NewSectionReader(f, 0, int64(len(content)+1)), "image"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that is too short: %v", err)
	}
	if err := stream(g, memory.GPA(memory.MinSize-chunk), whole, "image"); !errors.Is(err, memory.ErrHole) {
		t.Errorf("beyond guest RAM: %v", err)
	}
}
