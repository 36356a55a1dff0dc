package policy

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestTrace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	want := &Trace{Pages: 1<<32 - 1, Refs: []uint32{1<<32 - 2}}
	for range 10000 {
		want.Refs = append(want.Refs, rng.Uint32N(1<<(4+rng.Uint32N(28))))
	}
	var file bytes.Buffer
	if err := want.Write(&file); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	got, err := ReadTrace(bytes.NewReader(whole))
	if err != nil || got.Pages != want.Pages || !slices.Equal(got.Refs, want.Refs) {
		t.Fatalf("read back %d references of %d pages, %v; want %d of %d, the same", len(got.Refs), got.Pages, err, len(want.Refs), want.Pages)
	}
	for _, n := range []int{0, 5, len(whole) / 2, len(whole) - 1} {
		if _, err := ReadTrace(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("a trace cut to %d of %d bytes was read", n, len(whole))
		}
	}
	full := errors.New("disk full")
	if err := want.Write(failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("write to a full disk: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
