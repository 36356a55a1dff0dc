package attach

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The module can be unloaded exactly when nothing uses it.
func TestBridgeUnload(t *testing.T) {
	needBridge(t)
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: unloading a module takes root")
	}
	file := moduleFile(t)
	unload := func() error { return unix.DeleteModule("offmap", unix.O_NONBLOCK) }

	dev, err := openBridgeDevice("")
	if err != nil {
		t.Fatal(err)
	}
	if err := unload(); err != unix.EAGAIN {
		t.Errorf("with the device open: %v, want %v", err, unix.EAGAIN)
	}
	s := newSecret(t, 4*page)
	req := s.request()
	if err := bind(dev, &req); err != nil {
		t.Fatal(err)
	}
	view := mapShared(t, dev, 0, 4*page)
	unix.Close(dev)
	if err := unload(); err != unix.EAGAIN {
		t.Errorf("with a view mapped: %v, want %v", err, unix.EAGAIN)
	}
	if err := store(view, 0, 1); err != nil {
		t.Errorf("the view: %v", err)
	}
	unmap(t, view)
	if err := unload(); err != nil {
		t.Fatalf("unused: %v", err)
	}
	if _, err := openBridgeView("", s.fd, start(s.mem), 4*page); !errors.Is(err, ErrBridgeMissing) {
		t.Errorf("without the module: %v", err)
	}

	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil {
		t.Fatalf("load %s again: %v", file, err)
	}
	viewOf(t, s).bytes()[0] = 1
}

// moduleFile finds the module, so that it can be loaded again, where "make
// install", DKMS or the lab has put it.
func moduleFile(t *testing.T) string {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("/lib/modules", unix.ByteSliceToString(uts.Release[:]))
	for _, dir := range []string{"updates", "updates/dkms", "extra"} {
		file := filepath.Join(root, dir, "offmap.ko")
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	t.Skipf("NOT TESTED: no offmap.ko under %s to load again", root)
	return ""
}
