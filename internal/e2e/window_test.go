package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"offmap/audit/canary"
	"offmap/guest/protocol"
	"offmap/internal/measure/guestrun"
	"offmap/memory"
)

// windowLinux are the arguments that boot Linux with 256 MiB of RAM behind a
// window.
func windowLinux(window, exec string, more ...string) []string {
	return linux("secret", exec, append([]string{"-m", "256", "--attach", "window", "--window", window}, more...)...)
}

// checkWindow holds a run's report against what a window promises.
func checkWindow(t *testing.T, d *guestrun.Document, window uint64) {
	t.Helper()
	switch {
	case d.Attach != "window" || d.Window != window:
		t.Errorf("attach %q with a window of %d bytes, want %d", d.Attach, d.Window, window)
	case d.Exposed == 0 || d.Exposed > d.ExposedPeak || d.ExposedPeak > window:
		t.Errorf("%d bytes exposed, %d at the peak, of a window of %d", d.Exposed, d.ExposedPeak, window)
	case d.Faults.Count < d.Populated/memory.PageSize/64 || d.Faults.P50 <= 0 || d.Faults.P99 < d.Faults.P50:
		t.Errorf("faults %+v for %d bytes", d.Faults, d.Populated)
	}
}

// TestWindowLinux boots Linux behind a window, of a quarter of its RAM and of
// an eighth.
func TestWindowLinux(t *testing.T) {
	needInside(t)
	notInTheMiddle(t)
	for _, c := range []struct {
		mib          uint64
		cpus, kernel string // the one that it is tried on without -soak
	}{{64, "1", "6.1"}, {32, "2", "7"}} {
		if *soak == 0 && !kernelIs(t, c.kernel) {
			continue
		}
		d, r := report(t, 7, windowLinux(fmt.Sprint(c.mib)+"M", "uname -r; exit 7", "--cpus", c.cpus)...)
		checkWindow(t, d, c.mib<<20)
		if d.Exit.Reason != "poweroff" || d.ToUserland == nil || !strings.Contains(r.stderr, "6.1.0-") {
			t.Errorf("%+v\n%s", d, r.stderr)
			continue
		}
		fmt.Printf("window %d MiB of 256, %s vCPUs: to userland %.0f ms, %d faults, p50 %.0f µs, p99 %.0f µs, %d MiB populated\n",
			c.mib, c.cpus, *d.ToUserland, d.Faults.Count, d.Faults.P50, d.Faults.P99, d.Populated>>20)
	}
}

// TestWindowAge has a guest that stops touching its memory: its pages leave
// the window, though there is room.
func TestWindowAge(t *testing.T) {
	needInside(t)
	const pages = 1024
	file := filepath.Join(t.TempDir(), "report")
	args, canary := planter(t, pages, true)
	g := startRun(t, append([]string{"--window-age", "2s", "--report", file}, windowed(args, 2*pages)...)...)
	g.await(t, plantedLine)
	for start := time.Now(); ; {
		time.Sleep(4 * time.Second)
		exposed, all := inDirectMap(t, canary), inRAM(t, canary)
		if exposed != 0 && time.Since(start) < patience {
			continue // where the lab is slow
		}
		if exposed != 0 || all < pages {
			t.Errorf("%v later the canary is in %d pages of RAM, want %d, and in %d of the direct map, want 0", time.Since(start), all, pages, exposed)
		}
		break
	}
	g.Process.Signal(syscall.SIGTERM)
	g.ended()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := readRun(t, string(text))
	// Where the lab is slow, the first pages go while the last are planted.
	if d.ExposedPeak < pages*memory.PageSize/16 || d.Exposed > d.ExposedPeak/8 {
		t.Errorf("%d bytes exposed in the end, %d at the peak", d.Exposed, d.ExposedPeak)
	}
	t.Logf("%d KiB exposed in the end, %d KiB at the peak", d.Exposed>>10, d.ExposedPeak>>10)
}

// TestWindowHides has a Linux guest plant its own canary in more pages than
// the window has: the direct map shows some of it, and never more than fits.
// A guest that keeps its pages moving is TestKilled's.
func TestWindowHides(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.12") // TestKilled looks on all of them, at a smaller guest
	const window, pages = 32 << 20 / memory.PageSize, 12288
	g := startRun(t, windowLinux("32M", fmt.Sprintf("canary -pages %d -hold", pages))...)
	g.await(t, protocol.CanaryPlanted)
	canary := plantedCanary(t, g.out.String())
	for range 2 {
		exposed, all := inDirectMap(t, canary), inRAM(t, canary)
		fmt.Printf("window of %d pages: the canary is in %d pages of RAM, of which %d in the direct map\n", window, all, exposed)
		if exposed == 0 || exposed > window || all < pages {
			t.Errorf("the canary is in %d pages of RAM, want %d, and in %d of the direct map, want 1 to %d", all, pages, exposed, window)
		}
	}
	if _, err := g.input.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if code := g.ended(); code != 0 || !strings.Contains(g.out.String(), fmt.Sprintf("held in %d of %[1]d pages", pages)) {
		t.Errorf("exit code %d:\n%s", code, g.out.String())
	}
	if n := inRAM(t, canary); n != 0 {
		t.Errorf("the canary is in %d pages of RAM after the guest's end", n)
	}
}

// TestWindowPanic has a guest's kernel panic.
func TestWindowPanic(t *testing.T) {
	needInside(t)
	onlyOn(t, "6.1")
	g := startRun(t, windowLinux("32M", "canary -pages 4096; echo c > /proc/sysrq-trigger; sleep 60")...)
	if code := g.ended(); code != 34 {
		t.Errorf("exit code %d, want 34:\n%s", code, g.out.String())
	}
	if n := inRAM(t, plantedCanary(t, g.out.String())); n != 0 {
		t.Errorf("the canary is in %d pages of RAM after the guest's panic", n)
	}
}

// plantedCanary finds a Linux guest's canary in what it said.
func plantedCanary(t *testing.T, console string) canary.Canary {
	t.Helper()
	for line := range strings.Lines(console) {
		if masked, _, ok := protocol.ParseCanaryLine(strings.TrimSpace(line)); ok {
			c, err := canary.Parse(masked)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	t.Fatalf("no canary in:\n%s", console)
	return canary.Canary{}
}

// TestSmallestWindow prints which windows Linux reaches its userland with, from
// large to small until one takes too long.
func TestSmallestWindow(t *testing.T) {
	needInside(t)
	patience := *least
	if patience == 0 {
		t.Skip("SKIPPED: wants -smallest-window=10m or so")
	}
	fmt.Printf("window   vCPUs  to userland\n")
	for _, cpus := range []string{"1", "2"} {
		for kib := 16 << 10; kib >= 256; kib /= 2 {
			args := append([]string{"run", "--json", "--timeout", patience.String()},
				windowLinux(strconv.Itoa(kib)+"K", "true", "--cpus", cpus)...)
			r := offmapRunFor(t, patience+time.Minute, args...)
			d := readRun(t, r.stdout)
			result := "not within " + patience.String()
			if d.ToUserland != nil {
				result = fmt.Sprintf("%.1f s, %d faults, p50 %.0f µs", *d.ToUserland/1000, d.Faults.Count, d.Faults.P50)
			}
			fmt.Printf("%5d K  %5s  %s (exit code %d)\n", kib, cpus, result, r.code)
			if d.ToUserland == nil {
				break // smaller ones only take longer
			}
		}
	}
}
