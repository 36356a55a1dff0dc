package bench

import (
	"testing"
	"time"
)

// TestClocksAgree checks the error for a guest whose TSC doesn't run at the rate
// that KVM reports.
func TestClocksAgree(t *testing.T) {
	const kHz = 2_000_000
	for _, c := range []struct {
		name   string
		cycles uint64
		took   time.Duration
		ok     bool
	}{
		{"all of the time", 2e9, time.Second, true},
		{"most of it", 1.5e9, time.Second, true},
		{"a little, of a short run", 2e6, 40 * time.Millisecond, true},
		{"more than there was", 2.1e9, time.Second, false},
		{"a fifth of it", 4e8, time.Second, false},
	} {
		r := guestRun{TSCKHz: kHz, Took: c.took}
		if err := r.likely(c.cycles); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if got := (guestRun{TSCKHz: kHz}).nanoseconds(3000); got != 1500 {
		t.Errorf("3000 cycles at %d kHz are %v ns", kHz, got)
	}
}
