package vmm

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"offmap/memory"
	"offmap/memory/attach"
)

// BenchmarkSideBySide makes guests in one process, and has all of them exit to it at once.
// It reports the time to make and to close each, the ordinary memory that each takes
// besides its RAM, the process's threads, and the exits of all. -benchtime 1x is one
// round.
func BenchmarkSideBySide(b *testing.B) {
	const size, count = 32 << 20, 2000
	for _, c := range []struct {
		backend memory.Backend
		attach  attach.Method
	}{{memory.Memfd, attach.Direct}, {memory.Secret, attach.ViaWindow}} {
		for _, n := range []int{1, 10, 50} {
			b.Run(fmt.Sprintf("%s/%s/%d", c.backend, c.attach, n), func(b *testing.B) {
				if c.attach == attach.ViaWindow {
					needWindow(b)
				}
				var making, running, closing time.Duration
				var anon, threads uint64 // KiB, and threads
				for b.Loop() {
					before := status(b, "RssAnon")
					start := time.Now()
					machines := make([]*Machine, n)
					for i := range machines {
						cfg := argsConfig(b, "exits", 1, size, count)
						cfg.Backend, cfg.Attach = c.backend, c.attach
						if c.attach == attach.ViaWindow {
							cfg.Options.Window = size / 2
						}
						var err error
						if machines[i], err = New(cfg); err != nil {
							b.Fatal(err)
						}
					}
					making += time.Since(start)
					start = time.Now()
					var all errgroup.Group
					for _, m := range machines {
						all.Go(func() error {
							r, err := m.Run(b.Context())
							if err == nil && r.Outcome.Reason != PowerOff {
								err = fmt.Errorf("%+v", r.Outcome)
							}
							return err
						})
					}
					if err := all.Wait(); err != nil {
						b.Fatal(err)
					}
					running += time.Since(start)
					runtime.GC()
					anon += status(b, "RssAnon") - min(before, status(b, "RssAnon"))
					threads += status(b, "Threads")
					start = time.Now()
					for _, m := range machines {
						if err := m.Close(); err != nil {
							b.Fatal(err)
						}
					}
					closing += time.Since(start)
				}
				each := float64(b.N * n)
				b.ReportMetric(making.Seconds()*1000/each, "ms-to-make")
				b.ReportMetric(closing.Seconds()*1000/each, "ms-to-close")
				b.ReportMetric(float64(anon)/each, "KiB-each")
				b.ReportMetric(float64(threads)/float64(b.N), "threads")
				b.ReportMetric(3*count*each/running.Seconds(), "exits/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// status is a number in this process's status (proc(5)).
func status(b *testing.B, name string) (n uint64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+name+":")
	if _, err := fmt.Sscan(after, &n); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	return n
}
