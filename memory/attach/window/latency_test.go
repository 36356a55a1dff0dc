package window

import (
	"math"
	"testing"
	"time"
)

// TestLatencies checks the edges, the width and the order of buckets.
func TestLatencies(t *testing.T) {
	last := -1
	for n := uint64(0); n < 1<<40; n += 1 + n/50 {
		i := bucket(n)
		if i < last {
			t.Fatalf("%d is in bucket %d, a smaller duration in %d", n, i, last)
		}
		last = i
		if lo, width := edge(i); n < lo || n >= lo+width || width > max(1, lo/8) {
			t.Fatalf("%d is in bucket %d, which has %d from %d on", n, i, width, lo)
		}
	}
	for _, n := range []uint64{1 << 43, math.MaxUint64} {
		if i := bucket(n); i != len(latencies{}.buckets)-1 {
			t.Errorf("%d is in bucket %d", n, i)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var l, other latencies
	if q := l.quantile(.5); q != 0 {
		t.Errorf("median of nothing: %v", q)
	}
	for i := range 98 {
		l.add(time.Duration(10+i%2) * time.Microsecond)
	}
	other.add(time.Millisecond)
	other.add(-time.Second) // a clock that went back
	l.merge(&other)
	for _, c := range []struct {
		q        float64
		min, max time.Duration
	}{
		{0, 0, 0},
		{.5, 10 * time.Microsecond, 11 * time.Microsecond},
		{.98, 9 * time.Microsecond, 12 * time.Microsecond},
		{.99, 900 * time.Microsecond, 1100 * time.Microsecond},
	} {
		if got := l.quantile(c.q); got < c.min || got > c.max {
			t.Errorf("quantile %v is %v, want %v to %v", c.q, got, c.min, c.max)
		}
	}
}

// TestQuantilesBetween checks the interpolation within a bucket.
func TestQuantilesBetween(t *testing.T) {
	var l latencies
	const n = 1 << 17 // where a bucket ends
	for d := range n {
		l.add(time.Duration(d))
	}
	for _, q := range []float64{.1, .3, .5, .57, .9, .99} {
		if got, want := float64(l.quantile(q)), q*n; math.Abs(got-want) > .002*want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
