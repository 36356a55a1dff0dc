package memory

import (
	"fmt"
	"testing"
)

// BenchmarkAccess measures accesses of the sizes of virtio's structures, from an
// element of a ring to a request's header. A device makes about eight a request.
func BenchmarkAccess(b *testing.B) {
	l, err := NewLayout(MinSize)
	if err != nil {
		b.Fatal(err)
	}
	r, err := New(Memfd, l)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	var g Guest = r // as devices have it
	for _, size := range []int{2, 16, 48, PageSize} {
		p := make([]byte, size)
		b.Run(fmt.Sprintf("read/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.ReadAt(p, 0x5000); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("write/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.WriteAt(p, 0x5000); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
