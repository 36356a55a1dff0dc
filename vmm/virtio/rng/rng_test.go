package rng

import (
	"bytes"
	"testing"
	"time"

	"offmap/memory/memtest"
	"offmap/vmm/virtio/virtiotest"
)

func newRNG(t testing.TB) *RNG {
	t.Helper()
	r, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequests(t *testing.T) {
	check := memtest.Leaks(t)
	t.Run("", func(t *testing.T) {
		r := newRNG(t)
		d := virtiotest.New(t, r)
		var total uint64
		seen := map[string]bool{}
		for _, tt := range []struct {
			readable [][]byte
			writable []int
			want     int
		}{
			{nil, []int{64}, 64},
			{nil, []int{64}, 64},
			{nil, []int{1, 4097, 3}, 4101},
			{[][]byte{{1, 2, 3}}, nil, 0},
			{[][]byte{{1, 2, 3}}, []int{32}, 32},
			{nil, []int{1000, 2 * Burst}, Burst},
		} {
			n, out := d.Request(0, tt.readable, tt.writable)
			all := bytes.Join(out, nil)
			if int(n) != tt.want || len(bytes.Trim(all[n:], "\x00")) != 0 {
				t.Errorf("%v: %d bytes written, want %d, and others after them are touched", tt.writable, n, tt.want)
			}
			if n >= 16 && (seen[string(all[:16])] || bytes.Count(all[:n], []byte{0}) > int(n)/16+8) {
				t.Errorf("%v: not random: % x", tt.writable, all[:16])
			}
			seen[string(all[:min(16, n)])] = true
			total += uint64(n)
		}
		if s := r.Stats(); s.ReadBytes != total || s.WrittenBytes != 0 || s.Requests["read"] != 6 {
			t.Errorf("stats %+v, want %d bytes", s, total)
		}
	})
	check()
}

// A guest that wants too much waits, and a reset doesn't wait for it.
func TestResetWhileWaiting(t *testing.T) {
	d := virtiotest.New(t, newRNG(t))
	for range 3 {
		for range 50 { // seconds of it
			d.Rings[0].Send(nil, []int{Burst})
		}
		start := time.Now()
		if err := d.Reset(^uint64(0)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > virtiotest.Limit/2 {
			t.Errorf("the reset took %v", took)
		}
	}
}

// Requests that are lost in resets aren't paid for: the next driver doesn't wait for
// longer than for its own.
func TestResetsCostNothing(t *testing.T) {
	r := newRNG(t)
	d := virtiotest.New(t, r)
	for range 200 {
		d.Rings[0].Send(nil, []int{Burst})
		d.Rings[0].Send(nil, []int{Burst})
		if err := d.Reset(^uint64(0)); err != nil {
			t.Fatal(err)
		}
	}
	if wait := r.take(minCost); wait > fill(2*Burst) {
		t.Errorf("a small request after them waits for %v", wait)
	}
}

func TestBucket(t *testing.T) {
	now := time.Now()
	b := bucket{full: now}
	for range Burst / minCost {
		if d := b.take(minCost, now); d != 0 {
			t.Fatalf("waits %v for what is there", d)
		}
	}
	// From then on it is the rate that counts, whatever the size of a request.
	for _, n := range []int{minCost, Burst} {
		start := now
		for got := 0; got < 10*Rate; got += n {
			now = now.Add(b.take(n, now))
		}
		if took := now.Sub(start); took < 9900*time.Millisecond || took > 10100*time.Millisecond {
			t.Errorf("10 s of bytes, %d at a time, took %v", n, took)
		}
	}
	if d := b.take(Burst, now.Add(time.Hour)); d != 0 {
		t.Errorf("waits %v after a pause", d)
	}
	if d := b.take(Burst, now.Add(time.Hour)); d <= 0 {
		t.Error("a long pause fills it with more than Burst")
	}
}

// FuzzDriver is a driver that does what it likes.
func FuzzDriver(f *testing.F) {
	f.Add([]byte{4, 0, 0, 0, 64, 0, 0})                                   // a request for 64 bytes
	f.Add([]byte{4, 0, 3, 1, 2, 3, 17, 255, 255, 0, 7, 0, 4, 0, 1, 9, 0}) // too much, a reset
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newRNG(t)
		virtiotest.Hostile(t, r, script)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
}
