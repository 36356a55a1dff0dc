package exposuremap

import (
	"math/rand/v2"
	"testing"

	"offmap/memory"
	"offmap/vmm"
)

// BenchmarkSampleOf makes a sample of a guest of 512 MiB.
func BenchmarkSampleOf(b *testing.B) {
	pages := make([]memory.PageState, 512<<20/memory.PageSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range pages {
		pages[i] = memory.PageState(r.IntN(3))
	}
	for b.Loop() {
		SampleOf(vmm.Look{}, pages)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(pages)), "ns/page")
}
