package window

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"offmap/memory"
)

// The guest of these benchmarks has eight times the window's memory, and the
// store has all of it.
const (
	benchPages  = 128 << 20 / memory.PageSize
	benchWindow = benchPages / 8
)

// Faults come one after the other, at pages far apart or in order, as many as
// there are pages in a window several times over.
var benchSteps = []struct {
	name string
	step uint64
}{{"scattered", 7919}, {"sweep", 1}}

// BenchmarkFault is a touch of the next page, nearly each of which faults.
func BenchmarkFault(b *testing.B) {
	for _, s := range benchSteps {
		b.Run(s.name, func(b *testing.B) {
			w := newWindow(b, flat(b, benchPages*memory.PageSize), Config{Size: benchWindow * memory.PageSize, Threads: 1})
			pipe, one := newPipe(b), []byte{1}
			for p := range int64(benchPages) {
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
			reportLatency(b, float64(l[0]), float64(l[1]))
		})
	}
}

// BenchmarkFloor is the same in C, with the same system calls and no policy:
// what BenchmarkFault is to be compared with, in the same run.
func BenchmarkFloor(b *testing.B) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		b.Skip("SKIPPED: no C compiler")
	}
	floor := filepath.Join(b.TempDir(), "floor")
	if out, err := exec.Command(cc, "-O2", "-Wall", "-o", floor, "testdata/floor.c", "-lpthread").CombinedOutput(); err != nil {
		b.Fatalf("cc: %v\n%s", err, out)
	}
	for _, s := range benchSteps {
		b.Run(s.name, func(b *testing.B) {
			newWindow(b, flat(b, memory.PageSize), Config{Size: MinSize}) // skips where there is none
			touches := max(b.N, 2*benchWindow)
			out, err := exec.Command(floor, strconv.Itoa(benchPages), strconv.Itoa(benchWindow),
				strconv.Itoa(touches), strconv.FormatUint(s.step, 10)).Output()
			if err != nil {
				b.Fatalf("floor: %v", err)
			}
			var touch, p50, p99 float64
			if _, err := fmt.Sscan(string(out), &touch, &p50, &p99); err != nil {
				b.Fatalf("floor said %q: %v", out, err)
			}
			b.ReportMetric(touch, "ns/op")
			reportLatency(b, p50, p99)
		})
	}
}

func reportLatency(b *testing.B, p50, p99 float64) {
	b.ReportMetric(p50/1000, "p50-us")
	b.ReportMetric(p99/1000, "p99-us")
}
