package audit

import (
	"testing"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// TestHibernation attacks secret memory only: with ordinary memory this host
// would stand still (the audit's own test does that in the lab).
func TestHibernation(t *testing.T) {
	f := attackVictim(t, hibernation, startVictim(t, memory.Secret))
	if f.Errno != unix.EPERM || f.Pages != 0 || f.Bytes != 0 {
		t.Errorf("%+v, want EPERM and nothing read", f)
	}
}
