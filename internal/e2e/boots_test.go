package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"offmap/memory"
)

// median of an odd number of values, or the lower middle of an even one.
func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[(len(s)-1)/2]
}

// TestBootTimes boots the same guest in ordinary and in secret memory, in
// turns. It holds the ratio of the medians only where -boots gives it enough
// to go by: a shared machine is noisy.
func TestBootTimes(t *testing.T) {
	needInside(t)
	if *boots < 5 {
		t.Skip("SKIPPED: wants -boots=5 or more")
	}
	times := map[string][]float64{}
	var populated uint64
	for range *boots {
		for _, b := range []string{"anon", "secret"} {
			d, _ := report(t, 0, linux(b, "true")...)
			times[b] = append(times[b], *d.ToUserland)
			populated = d.Populated
			t.Logf("%-6s to userland %5.0f ms, %d MiB populated", b, *d.ToUserland, d.Populated>>20)
		}
	}
	a, s := median(times["anon"]), median(times["secret"])
	fmt.Printf("to_userland_ms, medians of %d, interleaved: anon %.0f, secret+bridge %.0f, ratio %.2f\n", *boots, a, s, s/a)
	ta, ts := firstTouch(t, memory.Anon), firstTouch(t, memory.Secret)
	fmt.Printf("the kernel's first touch of a page, no guest: anon %v, secret %v; for the %d MiB of a boot that is %v more\n",
		ta, ts, populated>>20, (ts-ta)*time.Duration(populated/memory.PageSize))
	if s > 1.25*a {
		t.Errorf("secret memory takes %.2f times as long as ordinary memory, want at most 1.25", s/a)
	}
}

// TestSoak boots secret guests in a row, each of which must get to the end.
func TestSoak(t *testing.T) {
	needInside(t)
	if *soak == 0 {
		t.Skip("SKIPPED: wants -soak=N")
	}
	var times []float64
	for i := range *soak {
		d, _ := report(t, 0, linux("secret", "true", "--cpus", fmt.Sprint(1+i%2))...)
		times = append(times, *d.ToUserland)
	}
	fmt.Printf("%d nested boots in a row: all reached userland, median %.0f ms, slowest %.0f ms\n", *soak, median(times), slices.Max(times))
}

// firstTouch is the time that a page takes at its first touch, on average over
// as much memory as a boot touches.
func firstTouch(t *testing.T, b memory.Backend) time.Duration {
	t.Helper()
	const pages = 96 << 20 / memory.PageSize
	layout, err := memory.LayoutOf(memory.Region{Size: pages * memory.PageSize})
	if err != nil {
		t.Fatal(err)
	}
	ram, err := memory.New(b, layout)
	if err != nil {
		t.Fatal(err)
	}
	defer ram.Close()
	start := time.Now()
	for i := range pages {
		if _, err := ram.WriteAt([]byte{1}, int64(i)*memory.PageSize); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start) / pages
}

// TestWindowBootTimes boots the same guest in ordinary memory and behind
// windows of an eighth to all of its RAM, in turns.
func TestWindowBootTimes(t *testing.T) {
	needInside(t)
	if *boots < 5 {
		t.Skip("SKIPPED: wants -boots=5 or more")
	}
	const ram = 256
	sizes := []uint64{ram / 8, ram / 4, ram / 2, ram} // MiB
	var anon []float64
	times, faults := map[uint64][]float64{}, map[uint64][]float64{}
	for range *boots {
		d, _ := report(t, 0, linux("anon", "true", "-m", fmt.Sprint(ram))...)
		anon = append(anon, *d.ToUserland)
		for _, mib := range sizes {
			d, _ := report(t, 0, windowLinux(fmt.Sprint(mib)+"M", "true")...)
			times[mib] = append(times[mib], *d.ToUserland)
			faults[mib] = append(faults[mib], float64(d.Faults.Count))
		}
		t.Logf("to userland, ms: anon %.0f, window %v", anon, times)
	}
	a := median(anon)
	fmt.Printf("to_userland_ms, medians of %d, interleaved, %d MiB of RAM: anon %.0f\n", *boots, ram, a)
	for _, mib := range sizes {
		fmt.Printf("window %3d MiB, %5.1f %% of RAM: %6.0f, ratio %.2f, %.0f faults\n",
			mib, float64(mib)*100/ram, median(times[mib]), median(times[mib])/a, median(faults[mib]))
	}
	if ratio := median(times[ram/4]) / a; ratio > 2.5 {
		t.Errorf("a window of a quarter of RAM takes %.2f times as long as ordinary memory, want at most 2.5", ratio)
	}
}
