package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// median of an odd number of values, or the lower middle of an even one.
func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.Sort(s)
	return s[(len(s)-1)/2]
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
