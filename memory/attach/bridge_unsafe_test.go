package attach

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/internal/abitest"
	"offmap/memory/kmod"
)

// Tests look at the view itself, which nothing else does.

// bytes is the view as a slice.
func (v *bridgeView) bytes() []byte { return unsafe.Slice((*byte)(v.addr), v.size) }

// viewOf makes a view of all of s for the time of the test.
func viewOf(t *testing.T, s *secret) *bridgeView {
	t.Helper()
	b, err := openBridgeView("", s.fd, start(s.mem), uint64(len(s.mem)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func start(mem []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(mem)) }

// beyond is p moved by n bytes, for requests that are wrong on purpose.
func beyond(p unsafe.Pointer, n int) unsafe.Pointer { return unsafe.Add(p, n) }

// TestBridgeABI holds the request numbers and the structure against the header
// that the module is built from.
func TestBridgeABI(t *testing.T) {
	header, err := kmod.Sources.ReadFile("offmap.h")
	if err != nil {
		t.Fatal(err)
	}
	var req bindRequest
	abitest.Compare(t, string(header), []abitest.Entry{
		{C: "OFFMAP_ABI_VERSION", Want: BridgeVersion},
		{C: "OFFMAP_IOC_VERSION", Want: bridgeGetVersion},
		{C: "OFFMAP_IOC_BIND", Want: bridgeBind},
		{C: "sizeof(struct offmap_bind)", Want: uint64(unsafe.Sizeof(req))},
		{C: "offsetof(struct offmap_bind, fd)", Want: uint64(unsafe.Offsetof(req.fd))},
		{C: "offsetof(struct offmap_bind, addr)", Want: uint64(unsafe.Offsetof(req.addr))},
		{C: "offsetof(struct offmap_bind, len)", Want: uint64(unsafe.Offsetof(req.len))},
	})
}

func (s *secret) request() bindRequest {
	return bindRequest{fd: int32(s.fd), addr: start(s.mem), len: uint64(len(s.mem))}
}

func bind(fd int, req *bindRequest) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), bridgeBind, uintptr(unsafe.Pointer(req)))
	return errnoError(errno)
}

func errnoError(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// nextPlace is where mapShared maps next. Tests make holes in mappings and fill
// them again; up here no mapping of the Go runtime's gets into them.
var nextPlace atomic.Uintptr

func init() { nextPlace.Store(0x100000000000) }

// mapShared maps size bytes of fd at its offset off, as a slice that the test
// unmaps in the end.
func mapShared(t *testing.T, fd int, off int64, size int) []byte {
	t.Helper()
	place := unsafe.Add(nil, nextPlace.Add(uintptr(size)+page)-uintptr(size)-page)
	p, err := unix.MmapPtr(fd, off, place, uintptr(size), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_SHARED|unix.MAP_FIXED_NOREPLACE)
	if err != nil {
		t.Fatalf("mmap of descriptor %d: %v", fd, err)
	}
	t.Cleanup(func() { unix.MunmapPtr(p, uintptr(size)) })
	return unsafe.Slice((*byte)(p), size)
}

// mapOver puts a mapping in the place of mem.
func mapOver(t *testing.T, mem []byte, fd int, off int64, flags int) {
	t.Helper()
	_, err := unix.MmapPtr(fd, off, start(mem), uintptr(len(mem)), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_FIXED)
	if err != nil {
		t.Fatalf("mmap over a mapping: %v", err)
	}
}

func unmap(t *testing.T, mem []byte) {
	t.Helper()
	if err := unix.MunmapPtr(start(mem), uintptr(len(mem))); err != nil {
		t.Fatalf("munmap: %v", err)
	}
}

// remap is mremap(2); to is the new place with MREMAP_FIXED.
func remap(mem []byte, oldSize, newSize int, flags int, to []byte) ([]byte, error) {
	p, _, errno := unix.Syscall6(unix.SYS_MREMAP, uintptr(start(mem)), uintptr(oldSize), uintptr(newSize),
		uintptr(flags), uintptr(start(to)), 0)
	if errno != 0 {
		return nil, errno
	}
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), newSize), nil
}

// store writes one byte, and returns what the kernel raised instead, if it
// did: a SIGBUS, as a rule.
func store(mem []byte, i int, v byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverFault(&err)
	mem[i] = v
	return nil
}

// load reads one byte, like store.
func load(mem []byte, i int) (v byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverFault(&err)
	return mem[i], nil
}

func recoverFault(err *error) {
	switch e := recover().(type) {
	case nil:
	case interface {
		error
		Addr() uintptr
	}:
		*err = fmt.Errorf("fault at %#x: %w", e.Addr(), e)
	default:
		panic(e)
	}
}

// resident returns how many pages of mem's file exist, from mincore(2).
func resident(t *testing.T, mem []byte) int {
	t.Helper()
	vec := make([]byte, len(mem)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(start(mem)), uintptr(len(mem)), uintptr(unsafe.Pointer(&vec[0])))
	if errno != 0 {
		t.Fatalf("mincore: %v", errno)
	}
	n := 0
	for _, v := range vec {
		n += int(v & 1)
	}
	return n
}

// forked makes one system call in a fork of this process and returns its
// errno, or 0.
//
//go:norace
func forked(t *testing.T, trap, a1, a2, a3, a4, a5, a6 uintptr) unix.Errno {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		t.Fatalf("clone: %v", errno)
	}
	if pid == 0 {
		// One thread of the Go runtime's and no allocation from here on.
		_, _, errno = unix.RawSyscall6(trap, a1, a2, a3, a4, a5, a6)
		for {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, uintptr(errno), 0, 0)
		}
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(int(pid), &status, 0, nil); err != nil {
		t.Fatalf("wait4: %v", err)
	}
	if !status.Exited() {
		t.Fatalf("the fork ended with %#x", status)
	}
	return unix.Errno(status.ExitStatus())
}

func forkedBind(t *testing.T, fd int, req *bindRequest) unix.Errno {
	var pin runtime.Pinner
	pin.Pin(req) // to the heap: a stack might move before the call
	defer pin.Unpin()
	return forked(t, unix.SYS_IOCTL, uintptr(fd), bridgeBind, uintptr(unsafe.Pointer(req)), 0, 0, 0)
}

func forkedMmap(t *testing.T, fd, size int) unix.Errno {
	return forked(t, unix.SYS_MMAP, 0, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, uintptr(fd), 0)
}

// forkedMsync is ENOMEM if mem is not mapped in the fork.
func forkedMsync(t *testing.T, mem []byte) unix.Errno {
	return forked(t, unix.SYS_MSYNC, uintptr(start(mem)), uintptr(len(mem)), unix.MS_ASYNC, 0, 0, 0)
}

func madvise(mem []byte, advice int) error {
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(start(mem)), uintptr(len(mem)), uintptr(advice))
	return errnoError(errno)
}

func mprotect(mem []byte, prot int) error {
	_, _, errno := unix.Syscall(unix.SYS_MPROTECT, uintptr(start(mem)), uintptr(len(mem)), uintptr(prot))
	return errnoError(errno)
}

// The three of them pin the pages of mem with get_user_pages().

// readRemote copies from mem with process_vm_readv(2).
func readRemote(mem []byte) error {
	to := make([]byte, len(mem))
	_, err := unix.ProcessVMReadv(unix.Getpid(),
		[]unix.Iovec{{Base: &to[0], Len: uint64(len(to))}},
		[]unix.RemoteIovec{{Base: uintptr(start(mem)), Len: len(mem)}}, 0)
	return err
}

// readProcMem copies from mem through /proc/self/mem.
func readProcMem(mem []byte) error {
	fd, err := unix.Open("/proc/self/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Pread(fd, make([]byte, len(mem)), int64(uintptr(start(mem))))
	return err
}

// splice gives the pages of mem to a pipe with vmsplice(2).
func splice(mem []byte) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	_, err := unix.Vmsplice(p[1], []unix.Iovec{{Base: &mem[0], Len: uint64(len(mem))}}, 0)
	return err
}

// uffdRegister registers mem with userfaultfd(2) in a mode.
func uffdRegister(mem []byte, mode uint64) error {
	const (
		uffdioAPI      = 0xc018aa3f // _IOWR(0xaa, 0x3f, struct uffdio_api)
		uffdioRegister = 0xc020aa00 // _IOWR(0xaa, 0x00, struct uffdio_register)
		wpAsync        = 1 << 15    // UFFD_FEATURE_WP_ASYNC, since 6.7
	)
	var err error
	// With wpAsync kernels take mappings that they don't take without.
	for _, features := range []uint64{0, wpAsync} {
		fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
		if errno != 0 {
			return fmt.Errorf("userfaultfd: %w", errno)
		}
		defer unix.Close(int(fd))
		api := struct{ api, features, ioctls uint64 }{api: 0xaa, features: features}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uffdioAPI, uintptr(unsafe.Pointer(&api))); errno != 0 {
			continue
		}
		reg := struct {
			start     unsafe.Pointer
			len, mode uint64
			ioctls    uint64
		}{start: start(mem), len: uint64(len(mem)), mode: mode}
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uffdioRegister, uintptr(unsafe.Pointer(&reg)))
		if errno == 0 {
			return nil
		}
		err = errno
	}
	return err
}
