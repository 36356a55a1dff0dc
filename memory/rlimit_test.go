package memory

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeepMemlock holds that New leaves RLIMIT_MEMLOCK alone if it is told to,
// and raises it otherwise.
func TestKeepMemlock(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &was); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 4 * PageSize, Max: was.Max}
	if low.Max <= low.Cur {
		t.Skipf("SKIPPED: the hard limit is %d bytes", low.Max)
	}
	defer func() {
		KeepMemlock = false
		unix.Setrlimit(unix.RLIMIT_MEMLOCK, &was)
	}()
	for _, KeepMemlock = range []bool{true, false} {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &low); err != nil {
			t.Fatal(err)
		}
		ram, err := New(Secret, Layout{{Size: 1 << 20}})
		if err == nil {
			err = ram.Close()
		} else if !errors.Is(err, ErrMemlock) && errors.Is(err, ErrUnavailable) {
			t.Skipf("SKIPPED: %v", err)
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &now); err != nil {
			t.Fatal(err)
		}
		if KeepMemlock != (now == low) {
			t.Errorf("KeepMemlock %v: the limit was %+v and is %+v (%v)", KeepMemlock, low, now, err)
		}
		if err != nil && !errors.Is(err, ErrMemlock) {
			t.Errorf("KeepMemlock %v: %v", KeepMemlock, err)
		}
	}
}
