package attach

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBridgeBindRefuses(t *testing.T) {
	needBridge(t)
	dev := openDevice(t)
	s := newSecret(t, 8*page)
	other := newSecret(t, 8*page)
	tail := mapShared(t, s.fd, 4*page, 4*page)
	unsized := secretFile(t, 0)

	holed := mapShared(t, s.fd, 0, 8*page)
	unmap(t, holed[3*page:4*page])
	patched := mapShared(t, s.fd, 0, 8*page)
	mapOver(t, patched[5*page:6*page], s.fd, 2*page, unix.MAP_SHARED)

	plain, err := unix.MemfdCreate("plain", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(plain)
	if err := unix.Ftruncate(plain, 8*page); err != nil {
		t.Fatal(err)
	}
	path, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(path)

	for _, tt := range []struct {
		name string
		mod  func(*bindRequest)
		want error
	}{
		{"flags", func(r *bindRequest) { r.flags = 1 }, unix.EINVAL},
		{"no length", func(r *bindRequest) { r.len = 0 }, unix.EINVAL},
		{"length not in pages", func(r *bindRequest) { r.len-- }, unix.EINVAL},
		{"length beyond the file", func(r *bindRequest) { r.len += page }, unix.EINVAL},
		{"length of everything", func(r *bindRequest) { r.len = -page & (1<<64 - 1) }, unix.EINVAL},
		{"length negative", func(r *bindRequest) { r.len = 1 << 63; r.addr = nil }, unix.EINVAL},
		{"address not at a page", func(r *bindRequest) { r.addr = beyond(r.addr, 1) }, unix.EINVAL},
		{"no descriptor", func(r *bindRequest) { r.fd = -1 }, unix.EBADF},
		{"O_PATH", func(r *bindRequest) { r.fd = int32(path) }, unix.EBADF},
		{"the device", func(r *bindRequest) { r.fd = int32(dev) }, unix.EINVAL},
		{"an ordinary memfd", func(r *bindRequest) {
			r.fd, r.addr = int32(plain), start(mapShared(t, plain, 0, 8*page))
		}, unix.EINVAL},
		{"a secret file without size", func(r *bindRequest) { r.fd = int32(unsized) }, unix.EINVAL},
		{"address 0", func(r *bindRequest) { r.addr = nil }, unix.EFAULT},
		{"kernel address", func(r *bindRequest) { r.addr = beyond(nil, -1<<30) }, unix.EFAULT},
		{"another file's mapping", func(r *bindRequest) { r.addr = start(other.mem) }, unix.EFAULT},
		{"a mapping from another offset", func(r *bindRequest) { r.addr, r.len = start(tail), 4*page }, unix.EFAULT},
		{"beyond a mapping's start", func(r *bindRequest) { r.addr, r.len = beyond(r.addr, page), page }, unix.EFAULT},
		{"a mapping with a hole", func(r *bindRequest) { r.addr = start(holed) }, unix.EFAULT},
		{"a mapping out of order", func(r *bindRequest) { r.addr = start(patched) }, unix.EFAULT},
	} {
		req := s.request()
		tt.mod(&req)
		if err := bind(dev, &req); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if err := bind(dev, nil); err != unix.EFAULT {
		t.Errorf("no request: %v", err)
	}
	if _, err := unix.IoctlRetInt(dev, bridgeBind+1); err != unix.ENOTTY {
		t.Errorf("unknown ioctl: %v", err)
	}
	// None of it has bound the device, or kept it from being bound.
	if _, err := unix.MmapPtr(dev, 0, nil, page, unix.PROT_READ, unix.MAP_SHARED); err != unix.ENXIO {
		t.Errorf("mmap before bind: %v", err)
	}
	req := s.request()
	if err := bind(dev, &req); err != nil {
		t.Errorf("bind: %v", err)
	}
	for _, r := range []bindRequest{s.request(), other.request()} {
		if err := bind(dev, &r); err != unix.EBUSY {
			t.Errorf("second bind: %v", err)
		}
	}
}

func TestBridgeBindOnlyOnce(t *testing.T) {
	needBridge(t)
	for range 200 {
		dev := openDevice(t)
		secrets := []*secret{newSecret(t, page), newSecret(t, page)}
		won := make(chan *secret, 2)
		var ready, done sync.WaitGroup
		ready.Add(2)
		for _, s := range secrets {
			done.Go(func() {
				ready.Done()
				ready.Wait()
				req := s.request()
				switch err := bind(dev, &req); err {
				case nil:
					won <- s
				case unix.EBUSY:
				default:
					t.Errorf("bind: %v", err)
				}
			})
		}
		done.Wait()
		if len(won) != 1 {
			t.Fatalf("%d binds won", len(won))
		}
		s := <-won
		s.mem[0] = 'x'
		if view := mapShared(t, dev, 0, page); view[0] != 'x' {
			t.Fatal("the view isn't of the file that was bound")
		}
	}
}

func TestBridgeMmapRefuses(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 8*page)
	bound := func(flags int) int {
		fd, err := unix.Open(BridgeDevice, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		req := s.request()
		req.len = 4 * page
		if err := bind(fd, &req); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	dev, readOnly := bound(unix.O_RDWR), bound(unix.O_RDONLY)

	const rw = unix.PROT_READ | unix.PROT_WRITE
	for _, tt := range []struct {
		name        string
		fd          int
		off, size   int64
		prot, flags int
		want        error
	}{
		{"all", dev, 0, 4 * page, rw, unix.MAP_SHARED, nil},
		{"the end", dev, 3 * page, page, rw, unix.MAP_SHARED, nil},
		{"for reading", dev, 0, 4 * page, unix.PROT_READ, unix.MAP_SHARED, nil},
		{"populated", dev, 0, 4 * page, rw, unix.MAP_SHARED | unix.MAP_POPULATE, nil},
		{"private", dev, 0, page, rw, unix.MAP_PRIVATE, unix.EINVAL},
		{"private for reading", dev, 0, page, unix.PROT_READ, unix.MAP_PRIVATE, unix.EINVAL},
		{"executable", dev, 0, page, rw | unix.PROT_EXEC, unix.MAP_SHARED, unix.EPERM},
		{"too long", dev, 0, 5 * page, rw, unix.MAP_SHARED, unix.ENXIO},
		{"beyond the end", dev, 4 * page, page, rw, unix.MAP_SHARED, unix.ENXIO},
		{"across the end", dev, 3 * page, 2 * page, rw, unix.MAP_SHARED, unix.ENXIO},
		{"far beyond the end", dev, 1 << 62, page, rw, unix.MAP_SHARED, unix.ENXIO},
		{"at the last offset", dev, -2 * page, page, rw, unix.MAP_SHARED, unix.ENXIO},
		{"of a read-only descriptor", readOnly, 0, page, unix.PROT_READ, unix.MAP_SHARED, unix.EINVAL},
	} {
		p, err := unix.MmapPtr(tt.fd, tt.off, nil, uintptr(tt.size), tt.prot, tt.flags)
		if err == nil {
			unix.MunmapPtr(p, uintptr(tt.size))
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// In another process the device is of no use, and the view isn't there.
func TestBridgeOfAnotherProcess(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 4*page)
	req := s.request()
	unbound, bound := openDevice(t), openDevice(t)
	if err := bind(bound, &req); err != nil {
		t.Fatal(err)
	}
	view := mapShared(t, bound, 0, 4*page)
	view[0] = 1

	if errno := forkedMsync(t, s.mem); errno != 0 {
		t.Errorf("control: the owner's mapping in a fork: %v", errno)
	}
	if errno := forkedMsync(t, view); errno != unix.ENOMEM {
		t.Errorf("the view in a fork: %v, want %v", errno, unix.ENOMEM)
	}
	if errno := forkedMmap(t, s.fd, 4*page); errno != 0 {
		t.Errorf("control: mmap of the secret file in a fork: %v", errno)
	}
	if errno := forkedMmap(t, bound, 4*page); errno != unix.EPERM {
		t.Errorf("mmap of a bound device in a fork: %v, want %v", errno, unix.EPERM)
	}
	if errno := forkedMmap(t, unbound, 4*page); errno != unix.EPERM {
		t.Errorf("mmap of an unbound device in a fork: %v, want %v", errno, unix.EPERM)
	}
	if errno := forkedBind(t, unbound, &req); errno != unix.EPERM {
		t.Errorf("bind in a fork: %v, want %v", errno, unix.EPERM)
	}
	if err := bind(unbound, &req); err != nil {
		t.Errorf("control: bind: %v", err)
	}
}

// The view opens the pages to nothing that pins pages.
func TestBridgeRefusesGUP(t *testing.T) {
	needBridge(t)
	view := viewOf(t, newSecret(t, 4*page)).bytes()
	ordinary, err := unix.Mmap(-1, 0, 4*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(ordinary)
	for i := 0; i < 4*page; i += page {
		view[i], ordinary[i] = 1, 1
	}
	for _, tt := range []struct {
		name string
		read func([]byte) error
		want error
	}{
		{"process_vm_readv", readRemote, unix.EFAULT},
		{"/proc/self/mem", readProcMem, unix.EIO},
		{"vmsplice", splice, unix.EFAULT},
	} {
		if err := tt.read(ordinary); err != nil {
			t.Errorf("control: %s of ordinary memory: %v", tt.name, err)
		}
		if err := tt.read(view); !errors.Is(err, tt.want) {
			t.Errorf("%s of the view: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// No advice makes the view dumped, inherited, executable or someone else's to
// populate, nor loses what is in it.
func TestBridgeKeepsItsFlags(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 4*page)
	view := viewOf(t, s).bytes()
	view[0] = 'x'
	before := vmFlags(t, view)

	for _, tt := range []struct {
		name string
		do   func() error
		want error
	}{
		{"MADV_DOFORK", func() error { return madvise(view, unix.MADV_DOFORK) }, unix.EINVAL},
		{"MADV_DODUMP", func() error { return madvise(view, unix.MADV_DODUMP) }, unix.EINVAL},
		{"MADV_WIPEONFORK", func() error { return madvise(view, unix.MADV_WIPEONFORK) }, unix.EINVAL},
		{"MADV_DONTNEED", func() error { return madvise(view, unix.MADV_DONTNEED) }, unix.EINVAL},
		{"MADV_REMOVE", func() error { return madvise(view, unix.MADV_REMOVE) }, unix.ENODEV},
		{"MADV_FREE", func() error { return madvise(view, unix.MADV_FREE) }, unix.EINVAL},
		{"MADV_PAGEOUT", func() error { return madvise(view, unix.MADV_PAGEOUT) }, unix.EINVAL},
		{"MADV_COLLAPSE", func() error { return madvise(view, unix.MADV_COLLAPSE) }, unix.EINVAL},
		{"MADV_POPULATE_WRITE", func() error { return madvise(view, unix.MADV_POPULATE_WRITE) }, unix.EINVAL},
		{"PROT_EXEC", func() error { return mprotect(view, unix.PROT_READ|unix.PROT_EXEC) }, unix.EACCES},
		{"UFFDIO_REGISTER missing", func() error { return uffdRegister(view, 1) }, unix.EINVAL},
		{"UFFDIO_REGISTER write-protect", func() error { return uffdRegister(view, 2) }, unix.EINVAL},
		{"UFFDIO_REGISTER minor", func() error { return uffdRegister(view, 4) }, unix.EINVAL},
		{"mremap to grow", func() error {
			_, err := remap(view, len(view), 2*len(view), unix.MREMAP_MAYMOVE, nil)
			return err
		}, unix.EFAULT},
		{"mremap to copy", func() error {
			_, err := remap(view, 0, len(view), unix.MREMAP_MAYMOVE, nil)
			return err
		}, unix.EFAULT},
		{"mremap to move and keep", func() error {
			_, err := remap(view, len(view), len(view), unix.MREMAP_MAYMOVE|unix.MREMAP_DONTUNMAP, nil)
			return err
		}, unix.EINVAL},
	} {
		if err := tt.do(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	if after := vmFlags(t, view); !slices.Equal(before, after) {
		t.Errorf("VmFlags were %v, are %v", before, after)
	}
	if v, err := load(view, 0); v != 'x' || err != nil {
		t.Errorf("view reads %q, %v", v, err)
	}
	if n := resident(t, s.mem); n != 1 {
		t.Errorf("%d pages after touching one", n)
	}
}

func TestBridgeProtection(t *testing.T) {
	needBridge(t)
	s := newSecret(t, 4*page)
	view := viewOf(t, s).bytes()
	view[0] = 'x'
	if err := mprotect(view, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	for i, want := range []byte{'x', 0} {
		if v, err := load(view, i*page); v != want || err != nil {
			t.Errorf("page %d reads %q, %v", i, v, err)
		}
		if err := store(view, i*page, 'y'); err == nil {
			t.Errorf("page %d: store through a read-only view", i)
		}
	}
	if err := mprotect(view, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := store(view, i*page, 'z'); err != nil || s.mem[i*page] != 'z' {
			t.Errorf("page %d: %v, owner reads %q", i, err, s.mem[i*page])
		}
	}
}
