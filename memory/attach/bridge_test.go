package attach

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const page = 4096

// needBridge skips the test where there is no module to test.
func needBridge(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(BridgeDevice); errors.Is(err, os.ErrNotExist) {
		t.Skipf("NOT TESTED: no %s here: run in the lab", BridgeDevice)
	}
}

// secret is a secret file and the owner's mapping of it.
type secret struct {
	fd  int
	mem []byte
}

func newSecret(t *testing.T, size int) *secret {
	t.Helper()
	fd := secretFile(t, size)
	return &secret{fd, mapShared(t, fd, 0, size)}
}

func secretFile(t *testing.T, size int) int {
	t.Helper()
	// What is charged, and when, differs; see TestBridgeMemlock.
	setMemlock(t, unix.RLIM_INFINITY)
	fd, err := unix.MemfdSecret(unix.O_CLOEXEC)
	if err != nil {
		t.Fatalf("memfd_secret: %v", err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		t.Fatalf("ftruncate: %v", err)
	}
	return fd
}

func setMemlock(t *testing.T, bytes uint64) {
	t.Helper()
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}); err != nil {
		t.Fatalf("setrlimit RLIMIT_MEMLOCK: %v", err)
	}
}

func openDevice(t *testing.T) int {
	t.Helper()
	fd, err := openBridgeDevice("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// vmFlags returns the flags of the mapping at mem, from smaps (proc(5)).
func vmFlags(t *testing.T, mem []byte) []string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := fmt.Sprintf("%x-", start(mem))
	head = strings.TrimPrefix(head, "0x")
	found := false
	for s := bufio.NewScanner(f); s.Scan(); {
		found = found || strings.HasPrefix(s.Text(), head)
		if flags, ok := strings.CutPrefix(s.Text(), "VmFlags:"); ok && found {
			return strings.Fields(flags)
		}
	}
	t.Fatalf("no mapping at %p in smaps", start(mem))
	return nil
}

func TestBridgeUnavailable(t *testing.T) {
	locked := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(locked, nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, device string
		want         error
		errno        unix.Errno
		fix          string
	}{
		{"missing", filepath.Join(t.TempDir(), "device"), ErrBridgeMissing, unix.ENOENT, "modprobe offmap"},
		{"another device", "/dev/null", ErrBridgeABI, unix.ENOTTY, "offmap.ko"},
		{"no right", locked, ErrBridgeDenied, unix.EACCES, "group"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			errc := make(chan error)
			go func() {
				// Never unlocked: the thread and its lack of rights end here.
				runtime.LockOSThread()
				if tt.errno == unix.EACCES {
					unix.Setfsuid(65534)
				}
				_, err := openBridgeView(tt.device, -1, nil, 0)
				errc <- err
			}()
			err := <-errc
			for _, want := range []error{tt.want, tt.errno} {
				if !errors.Is(err, want) {
					t.Errorf("error is %v, not %q", err, want)
				}
			}
			if err != nil && !(strings.Contains(err.Error(), tt.device) && strings.Contains(err.Error(), tt.fix)) {
				t.Errorf("error doesn't name %s and %q: %v", tt.device, tt.fix, err)
			}
		})
	}
}

func TestBridgeView(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 1<<20)
	b := viewOf(t, s)
	view := b.bytes()

	copy(view[12345:], "through the view")
	if got := s.mem[12345:][:16]; !bytes.Equal(got, []byte("through the view")) {
		t.Errorf("owner reads %q", got)
	}
	copy(s.mem[700000:], "by the owner")
	if got := view[700000:][:12]; !bytes.Equal(got, []byte("by the owner")) {
		t.Errorf("view reads %q", got)
	}

	flags := vmFlags(t, view)
	for _, want := range []string{"sh", "pf", "io", "dc", "de", "dd"} {
		if !slices.Contains(flags, want) {
			t.Errorf("VmFlags %v lack %s", flags, want)
		}
	}
	for _, unwanted := range []string{"ex", "me"} {
		if slices.Contains(flags, unwanted) {
			t.Errorf("VmFlags %v have %s", flags, unwanted)
		}
	}
}

// A page that nobody touched doesn't exist, reads and writes both make one,
// and who touches it second gets the same one.
func TestBridgePopulatesLazily(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 1024*page)
	view := viewOf(t, s).bytes()
	if n := resident(t, s.mem); n != 0 {
		t.Fatalf("%d pages before the first touch", n)
	}
	for i := range 10 {
		view[i*100*page] = 1
		if v, err := load(view, (i*100+50)*page); v != 0 || err != nil {
			t.Errorf("a fresh page reads %d, %v", v, err)
		}
		s.mem[i*100*page] = 1
	}
	if n := resident(t, s.mem); n != 20 {
		t.Errorf("%d pages after touching 20", n)
	}
}

// The view can be of a part of the file, and mapped piece by piece.
func TestBridgeOfPart(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 16*page)
	dev := openDevice(t)
	req := s.request()
	req.len = 8 * page
	if err := bind(dev, &req); err != nil {
		t.Fatal(err)
	}
	for off := range 8 {
		piece := mapShared(t, dev, int64(off*page), page)
		piece[0] = byte('a' + off)
		if got := s.mem[off*page]; got != byte('a'+off) {
			t.Errorf("page %d: owner reads %q", off, got)
		}
	}
}

// Pages that were only ever touched through the view have no page table entry
// that the kernel's page reclaim knows of. Still nothing drops them.
func TestBridgeSurvivesReclaim(t *testing.T) {
	needBridge(t)
	const pages = 256
	s := newSecret(t, pages*page)
	view := viewOf(t, s).bytes()
	for i := range pages {
		view[i*page] = byte(i + 1)
	}
	for _, knob := range []struct{ file, value string }{
		{"/proc/sys/vm/drop_caches", "3"},
		{"/proc/sys/vm/compact_memory", "1"},
	} {
		if err := tell(knob.file, knob.value); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Fadvise(s.fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	// What the kernel does by itself to a page whose memory has many
	// correctable errors. It frees one that looks clean and unmapped.
	offline := "/sys/devices/system/memory/soft_offline_page"
	switch err := tell(offline, fmt.Sprintf("%#x", physical(t, s.fd, 7*page))); {
	case errors.Is(err, os.ErrNotExist):
		t.Logf("NOT TESTED: this kernel takes no page offline: %v", err)
	case err == nil:
		t.Error("a page of the view was taken offline")
	}
	for i := range pages {
		if want := byte(i + 1); view[i*page] != want || s.mem[i*page] != want {
			t.Fatalf("page %d: view reads %d, owner %d", i, view[i*page], s.mem[i*page])
		}
	}
}

// tell writes to a file of proc or sysfs.
func tell(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// physical returns the physical address of the page of the file fd at offset
// off, from pagemap (Documentation/admin-guide/mm/pagemap.rst), which shows it
// for ordinary mappings only.
func physical(t *testing.T, fd int, off int64) uint64 {
	t.Helper()
	mem := mapShared(t, fd, off, page)
	defer unmap(t, mem)
	if _, err := load(mem, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var entry [8]byte
	if _, err := f.ReadAt(entry[:], int64(uintptr(start(mem)))/page*8); err != nil {
		t.Fatal(err)
	}
	e := binary.LittleEndian.Uint64(entry[:])
	if e>>63 == 0 {
		t.Fatalf("no page at %p: %#x", start(mem), e)
	}
	return e & (1<<55 - 1) * page
}
