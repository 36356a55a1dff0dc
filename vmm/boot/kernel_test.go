package boot

import (
	"bytes"
	"io"
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
