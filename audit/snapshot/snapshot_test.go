package snapshot

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRefused holds a secret file open, so that the host can't stand still.
// That an image is searched is shown in the lab, by the audit of its controls.
func TestRefused(t *testing.T) {
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		t.Skipf("SKIPPED, nothing was shown here: memfd_secret: %v", err)
	}
	defer unix.Close(fd)
	image, err := Search(t.Context(), [4]uint64{}, [4]uint64{1, 2, 3, 4})
	t.Logf("%+v, %v", image, err)
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Stage != Opening || image != (Image{}) {
		t.Fatalf("%+v, %v: want a refusal when /dev/snapshot is opened", image, err)
	}
	switch refused.Errno {
	case unix.EPERM, unix.ENOENT, unix.EACCES:
	default:
		t.Errorf("errno %v", refused.Errno)
	}
}

// TestReport holds the struct to the offsets of snapshot.S.
func TestReport(t *testing.T) {
	page, err := newPage(report{Limit: 7, Stage: Making, Errno: 8, Pages: 9, Hits: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	b := make([]byte, pageSize)
	if _, err := page.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[int]uint64{64: 7, 72: uint64(Making), 80: 8, 88: 9, 96: 10} {
		if got := binary.LittleEndian.Uint64(b[offset:]); got != want {
			t.Errorf("offset %d: %d, want %d", offset, got, want)
		}
	}
}
