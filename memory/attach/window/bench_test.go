package window

import (
	"testing"

	"offmap/memory"
)

// The guest of these benchmarks is eight times as large as its window, and the
// store has all of its pages.
const (
	benchPages  = 128 << 20 / memory.PageSize
	benchWindow = benchPages / 8
)

// benchSteps are the distances, in pages, from one access to the next.
var benchSteps = []struct {
	name string
	step uint64
}{{"scattered", 7919}, {"sweep", 1}}

// BenchmarkFault measures an access to the next page, nearly each of which faults.
// It measures the pager alone: the scenario window-fault of offmap bench has a KVM
// guest, and a pager in C to compare with.
func BenchmarkFault(b *testing.B) {
	for _, s := range benchSteps {
		b.Run(s.name, func(b *testing.B) {
			w := newWindow(b, flat(b, benchPages*memory.PageSize), Config{Size: benchWindow * memory.PageSize, Threads: 1})
			pipe, one := newPipe(b), []byte{1}
			for p := range memory.GPA(benchPages) {
				if _, err := w.WriteAt(one, p*memory.PageSize); err != nil {
					b.Fatal(err)
				}
			}
			page := uint64(0)
			for b.Loop() {
				page = (page + s.step) % benchPages
				if err := w.guestWrite(pipe, page*memory.PageSize, one); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			l := w.Latency(.5, .99)
			b.ReportMetric(float64(l[0])/1000, "p50-us")
			b.ReportMetric(float64(l[1])/1000, "p99-us")
		})
	}
}
