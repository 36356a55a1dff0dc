package window

import (
	"math"
	"testing"
	"time"
)

// TestLatencies holds every bucket's middle within 7 % of what is in it, and
// the order of buckets.
func TestLatencies(t *testing.T) {
	last := -1
	for n := uint64(0); n < 1<<40; n += 1 + n/50 {
		i := bucket(n)
		if i < last {
			t.Fatalf("%d is in bucket %d, a smaller duration in %d", n, i, last)
		}
		last = i
		if m := float64(middle(i)); math.Abs(m-float64(n)) > .07*float64(n)+.5 {
			t.Fatalf("%d counts as %v", n, middle(i))
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
		{.5, 9 * time.Microsecond, 12 * time.Microsecond},
		{.98, 9 * time.Microsecond, 12 * time.Microsecond},
		{.99, 900 * time.Microsecond, 1100 * time.Microsecond},
	} {
		if got := l.quantile(c.q); got < c.min || got > c.max {
			t.Errorf("quantile %v is %v, want %v to %v", c.q, got, c.min, c.max)
		}
	}
}
