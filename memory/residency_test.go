package memory_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/memtest"
)

// TestResidency touches pages that it knows: these and no others change their
// state, in each backend that comes without a VM.
func TestResidency(t *testing.T) {
	for _, b := range memory.Backends() {
		t.Run(string(b), func(t *testing.T) {
			memtest.HugePages(t, 8<<20)
			ram, err := memory.New(b, oneRegion(t, 8<<20))
			memtest.NeedBackend(t, err)
			defer ram.Close()
			memtest.Residency(t, b, ram, ram.Residency)
		})
	}
}

func TestResidencyOfOtherRAM(t *testing.T) {
	ram, err := memory.New(memory.Anon, oneRegion(t, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	for _, n := range []int{0, 255, 257} {
		if err := ram.Residency(make([]memory.PageState, n)); err == nil {
			t.Errorf("the states of 256 pages went into %d", n)
		}
	}
}

// BenchmarkResidency looks at 512 MiB of RAM: none of it populated, all of it
// through the mapping that is looked at, and all of it through another, as a
// bridge's view and a guest_memfd's guest do.
func BenchmarkResidency(b *testing.B) {
	const size = 512 << 20
	for _, backend := range memory.Backends() {
		for _, how := range []string{"none", "mapped", "elsewhere", "elsewhere again"} {
			b.Run(string(backend)+"/"+how, func(b *testing.B) {
				layout, err := memory.LayoutOf(memory.Region{Size: size})
				if err != nil {
					b.Fatal(err)
				}
				memtest.HugePages(b, size)
				ram, err := memory.New(backend, layout)
				memtest.NeedBackend(b, err)
				defer ram.Close()
				for p := memory.GPA(0); how == "mapped" && p < memory.GPA(size); p += memory.PageSize {
					if _, err := ram.WriteAt([]byte{1}, p); err != nil {
						b.Fatal(err)
					}
				}
				if strings.HasPrefix(how, "elsewhere") {
					if ram.FD() < 0 || backend == memory.Hugetlb {
						b.Skip("no file, or one whose pages mincore sees in this mapping alone")
					}
					view, err := unix.Mmap(ram.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
					if err != nil {
						b.Fatal(err)
					}
					for p := 0; p < size; p += memory.PageSize {
						view[p] = 1
					}
					if err := unix.Munmap(view); err != nil {
						b.Fatal(err)
					}
				}
				pages := make([]memory.PageState, size/memory.PageSize)
				for b.Loop() {
					if how != "elsewhere again" {
						clear(pages) // each time is the first
					}
					if err := ram.Residency(pages); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				if want := how != "none" || backend == memory.Reserved; slices.Contains(pages, memory.Untouched) == want {
					b.Error("not what was populated")
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(pages)), "ns/page")
			})
		}
	}
}
