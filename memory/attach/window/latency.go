package window

import (
	"math/bits"
	"time"
)

// latencies is a histogram of durations in nanoseconds. A bucket is an eighth of a
// power of two wide, so a quantile is off by at most 12 %. It doesn't allocate.
type latencies struct {
	buckets [40 * 8]uint64
	count   uint64
}

func (l *latencies) add(d time.Duration) {
	l.buckets[bucket(uint64(max(d, 0)))]++
	l.count++
}

// bucket returns the index of n's bucket: the exponent, then the three bits after
// the leading one.
func bucket(n uint64) int {
	if n < 8 {
		return int(n)
	}
	e := bits.Len64(n) - 4
	return min(8*(e+1)+int(n>>e&7), len(latencies{}.buckets)-1)
}

// edge returns the shortest duration of bucket i, and the bucket's width.
func edge(i int) (lo, width uint64) {
	if i < 8 {
		return uint64(i), 1
	}
	e := i/8 - 1
	return uint64(8+i%8) << e, 1 << e
}

// quantile returns the duration that the share q of the durations doesn't exceed,
// by linear interpolation within a bucket, or 0 if there are no durations.
func (l *latencies) quantile(q float64) time.Duration {
	rank := uint64(q * float64(l.count))
	for i, n := range l.buckets {
		if n > rank {
			lo, width := edge(i)
			return time.Duration(lo + uint64(float64(width)*(float64(rank)+.5)/float64(n)))
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
