// Package rng is a virtio entropy device, virtio 1.2 §5.4: random bytes of the host's
// kernel for the guest.
package rng

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"offmap/vmm/virtio"
)

const (
	deviceID  = 4 // virtio 1.2 §5.4.1
	queueSize = 64
)

// What a guest gets at most, so that it can't keep a processor of the host busy. A
// request costs as much as minCost bytes, however small it is, and Rate is then about
// 4000 requests of Linux's driver a second. A request gets no more than Burst bytes.
const (
	Rate    = 1 << 20  // bytes a second
	Burst   = 64 << 10 // bytes at once, after a pause
	minCost = 256      // bytes
)

// RNG is the device. It implements virtio.Device.
//
// The bytes are the guest's secret: its keys come of them. So the kernel writes them
// from /dev/urandom to guest RAM, and offmap never has them.
type RNG struct {
	urandom  *os.File
	counters *virtio.Counters

	mu     sync.Mutex
	bucket bucket
}

// New opens /dev/urandom. It waits until the host's kernel has entropy, as getrandom(2)
// does.
func New() (*RNG, error) {
	var b [1]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		return nil, fmt.Errorf("entropy for the guest: %w", os.NewSyscallError("getrandom", err))
	}
	f, err := os.Open("/dev/urandom")
	if err != nil {
		return nil, fmt.Errorf("entropy for the guest: %w", err)
	}
	return &RNG{urandom: f, counters: virtio.NewCounters("read"), bucket: bucket{full: time.Now()}}, nil
}

// Name implements virtio.Device.
func (*RNG) Name() string { return "rng" }

// ID implements virtio.Device.
func (*RNG) ID() uint16 { return deviceID }

// Features implements virtio.Device.
func (*RNG) Features() uint64 { return 0 }

// QueueSizes implements virtio.Device.
func (*RNG) QueueSizes() []int { return []int{queueSize} }

// Config implements virtio.Device: there is none.
func (*RNG) Config() []byte { return nil }

// Stats returns what the guest has got.
func (r *RNG) Stats() virtio.Stats { return r.counters.Stats() }

// Close implements virtio.Device.
func (r *RNG) Close() error { return r.urandom.Close() }

// Serve implements virtio.Device.
func (r *RNG) Serve(_ int, q *virtio.Queue, _ uint64) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		c, err := q.Next()
		if err != nil {
			return stopped(err)
		}
		buf, _ := c.Writable.Cut(Burst)
		n := int(buf.Size())
		cost := max(n, minCost)
		wait.Reset(r.take(cost))
		select {
		case <-wait.C:
		case <-q.Stopped():
			// The next driver doesn't pay for what this one hasn't got.
			r.giveBack(cost)
			return nil
		}
		for n > 0 {
			n, err = q.Guest().Preadv(int(r.urandom.Fd()), buf, -1, 0)
			if !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if n == 0 && err != nil {
			return fmt.Errorf("entropy for the guest: %w", err)
		}
		r.counters.Count(0, uint64(n), 0)
		if err := q.Done(c, uint32(n)); err != nil {
			return stopped(err)
		}
	}
}

// stopped is Serve's result for an error of the queue.
func stopped(err error) error {
	if errors.Is(err, virtio.ErrStopped) {
		return nil
	}
	return err
}

// take pays for n bytes, at most Burst, and returns how long to wait for them.
func (r *RNG) take(n int) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bucket.take(n, time.Now())
}

// giveBack undoes take.
func (r *RNG) giveBack(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bucket.full = r.bucket.full.Add(-fill(n))
}

// bucket is a token bucket of Burst bytes that fills at Rate.
type bucket struct {
	full time.Time // when it is full again
}

func (b *bucket) take(n int, now time.Time) time.Duration {
	if b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(fill(n))
	return max(0, b.full.Sub(now)-fill(Burst))
}

// fill is how long it takes to fill n bytes.
func fill(n int) time.Duration { return time.Duration(n) * time.Second / Rate }
