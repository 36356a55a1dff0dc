package window

import (
	"math/bits"
	"time"
)

// latencies counts durations in buckets that are an eighth of a power of two
// wide, so that a quantile is right to 6 %. It has a fixed size and never
// allocates.
type latencies struct {
	buckets [40 * 8]uint64
	count   uint64
}

func (l *latencies) add(d time.Duration) {
	l.buckets[bucket(uint64(max(d, 0)))]++
	l.count++
}

// bucket of n: the exponent, and the three bits after the leading one.
func bucket(n uint64) int {
	if n < 8 {
		return int(n)
	}
	e := bits.Len64(n) - 4
	return min(8*(e+1)+int(n>>e&7), len(latencies{}.buckets)-1)
}

// middle is the duration in the middle of bucket i.
func middle(i int) time.Duration {
	if i < 8 {
		return time.Duration(i)
	}
	e := i/8 - 1
	lo := uint64(8+i%8) << e
	return time.Duration(lo + 1<<e/2)
}

// quantile is the duration that the share q of all durations don't exceed; 0
// where there are none.
func (l *latencies) quantile(q float64) time.Duration {
	rank := uint64(q * float64(l.count))
	for i, n := range l.buckets {
		if n > rank {
			return middle(i)
		}
		rank -= n
	}
	return 0
}

// merge adds o's counts.
func (l *latencies) merge(o *latencies) {
	for i, n := range o.buckets {
		l.buckets[i] += n
	}
	l.count += o.count
}
