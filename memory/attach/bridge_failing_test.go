package attach

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"offmap/internal/failnth"
)

// TestBridgeFailing has each allocation fail that the kernel makes for a secret file, the
// device, a bind, a view and the pages behind it. What fails is refused or tried again,
// and nothing is left of it.
func TestBridgeFailing(t *testing.T) {
	needBridge(t)
	setMemlock(t, unix.RLIM_INFINITY)
	before := traces(t)
	const size = 4 * page
	refused := 0
	n := failnth.Each(t, failnth.SlabAndPages, func() (err error) {
		fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Ftruncate(fd, size); err != nil {
			return err
		}
		owner, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		defer unix.Munmap(owner)
		view, err := openBridgeView("", fd, start(owner), size)
		if err != nil {
			return err
		}
		defer view.Close()
		for i := 0; i < size; i += page {
			if err := store(view.bytes(), i, 'x'); err != nil {
				return err
			}
			if owner[i] != 'x' {
				t.Errorf("page %d of the owner's mapping isn't the view's", i/page)
			}
		}
		return nil
	}, func(nth int, err error) {
		if err != nil {
			refused++
		}
		if err != nil && !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENFILE) {
			t.Errorf("allocation %d: %v", nth, err)
		}
		if after := traces(t); after.refs != before.refs || after.views != before.views {
			t.Errorf("allocation %d: before: %+v, after: %+v", nth, before, after)
		}
	})
	t.Logf("%d allocations failed, %d views with them", n, refused)
	if n == 0 {
		t.Error("no allocation has failed")
	}
}
