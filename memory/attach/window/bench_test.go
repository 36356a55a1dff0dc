package window

import (
	"testing"

	"offmap/memory"
)

// BenchmarkFault is one fault after the other at random pages of a guest eight
// times the window, as system calls take them.
func BenchmarkFault(b *testing.B) { benchFaults(b, 7919) }

// BenchmarkSweep walks the same guest in order.
func BenchmarkSweep(b *testing.B) { benchFaults(b, 1) }

func benchFaults(b *testing.B, step uint64) {
	const size, pages = 128 << 20, 128 << 20 / memory.PageSize
	w := newWindow(b, flat(b, size), Config{Size: size / 8, Threads: 1})
	pipe := newPipe(b)
	one := []byte{1}
	for p := range uint64(pages) { // the store has all pages
		if _, err := w.WriteAt(one, int64(p*memory.PageSize)); err != nil {
			b.Fatal(err)
		}
	}
	page := uint64(0)
	for b.Loop() {
		page = (page + step) % pages
		if err := w.guestWrite(pipe, page*memory.PageSize, one); err != nil {
			b.Fatal(err)
		}
	}
	c := w.Counts()
	b.ReportMetric(float64(c.Filled)/float64(c.Faults), "pages/fault")
	b.ReportMetric(float64(c.Faults)/float64(b.N), "faults/op")
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	l := w.Latency(.5, .99)
	b.ReportMetric(float64(l[0].Nanoseconds())/1000, "p50-us")
	b.ReportMetric(float64(l[1].Nanoseconds())/1000, "p99-us")
}
