package blk

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newDevice makes a block device of a file.
func newDevice(t *testing.T, path string, block uint32) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIPPED: no block devices to test with: %v", err)
	}
	defer control.Close()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 100 { // others may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skipf("SKIPPED: no block devices to test with: %v", err)
		}
		name := fmt.Sprint("/dev/loop", n)
		loop, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Skipf("SKIPPED: no block devices to test with: %v", err)
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd()), Size: block})
		if errors.Is(err, unix.EBUSY) {
			loop.Close()
			continue
		}
		if err != nil {
			loop.Close()
			t.Skipf("SKIPPED: no block devices to test with: %v", err)
		}
		t.Cleanup(func() {
			if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
				t.Error(err)
			}
			loop.Close()
		})
		return name
	}
	t.Skip("SKIPPED: no free block device to test with")
	return ""
}

// TestBlockDevice holds block devices against a slice of bytes, whatever their blocks
// are.
func TestBlockDevice(t *testing.T) {
	for _, o := range []Options{{}, {Cache: CacheNone}, {Overlay: true}} {
		for _, block := range []uint32{512, 4096} {
			path, want := newImage(t, 4<<20)
			name := newDevice(t, path, block)
			testModel(t, name, want, o, func(d *Disk) {
				if d.logical != int(block) || d.Config()[21] != byte(block>>8) {
					t.Errorf("blocks of %d bytes, and the disk has %d", block, d.logical)
				}
			})
		}
	}
}

// TestBlockDeviceInUse opens a device that has another user.
func TestBlockDeviceInUse(t *testing.T) {
	path, _ := newImage(t, 1<<20)
	name := newDevice(t, path, 512)
	other, err := unix.Open(name, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(name, Options{}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "by the host") {
		t.Error(err)
	}
	ro, err := Open(name, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	ro.Close()
	unix.Close(other)
	rw, err := Open(name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rw.Close()
	if _, err := Open(name, Options{ReadOnly: true}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another guest") {
		t.Error(err)
	}
}
