package window

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/memory"
)

// view is the window's file and what is mapped of it.
//
// The file is a memfd as large as guest RAM, of which only the resident pages
// exist. kvm is the mapping behind KVM's slots; Go never touches it (see
// package uffd). alias is a second mapping, by which the pager and devices get
// at resident pages; a page that comes into being through it is locked from
// its first moment, so that no frame is ever written to swap. store is the
// secret memory.
type view struct {
	fd    int
	size  uint64
	kvm   unsafe.Pointer
	alias []byte
	store []byte
}

// openView makes the file and the mappings. A failure leaves nothing behind.
func openView(ram *memory.RAM) (v *view, err error) {
	size := ram.Layout().Size()
	v = &view{fd: -1, size: size, store: unsafe.Slice((*byte)(ram.Pointer()), size)}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if v.fd, err = unix.MemfdCreate("offmap-window", unix.MFD_CLOEXEC); err != nil {
		return v, fmt.Errorf("memfd_create of the window: %w", err)
	}
	if err := unix.Ftruncate(v.fd, int64(size)); err != nil {
		return v, fmt.Errorf("ftruncate of the window to %d bytes: %w", size, err)
	}
	if v.alias, err = unix.Mmap(v.fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return v, fmt.Errorf("mmap of the window, %d bytes: %w", size, err)
	}
	if v.kvm, err = unix.MmapPtr(v.fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return v, fmt.Errorf("mmap of the window for KVM, %d bytes: %w", size, err)
	}
	for _, advice := range []int{unix.MADV_DONTDUMP, unix.MADV_DONTFORK, unix.MADV_NOHUGEPAGE} {
		err := errors.Join(madvise(v.kvm, size, advice), madvise(unsafe.Pointer(&v.alias[0]), size, advice))
		// A kernel without huge pages doesn't know the last one.
		if err != nil && !(advice == unix.MADV_NOHUGEPAGE && errors.Is(err, unix.EINVAL)) {
			return v, fmt.Errorf("madvise %d of the window: %w", advice, err)
		}
	}
	return v, v.lock()
}

// lock keeps the window's frames out of swap.
func (v *view) lock() error {
	const onFault = 1 // MLOCK_ONFAULT
	_, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(&v.alias[0])), uintptr(v.size), onFault)
	if errno == 0 || !swaps() {
		return nil
	}
	return fmt.Errorf("mlock2 of the window, %d bytes: %w: without it this host would swap pages of the guest out: "+
		"run as root (CAP_IPC_LOCK), raise RLIMIT_MEMLOCK to twice the guest's RAM, or switch swap off (sudo swapoff -a)", v.size, errno)
}

func madvise(p unsafe.Pointer, n uint64, advice int) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(p), uintptr(n), uintptr(advice)); errno != 0 {
		return errno
	}
	return nil
}

// Pointer is where KVM's slots find backend offset 0 (the HVA). It is nothing
// to dereference.
func (w *Window) Pointer() unsafe.Pointer { return w.view.kvm }

// base is the address of KVM's mapping, for userfaultfd.
func (v *view) base() uintptr { return uintptr(v.kvm) }

// unmap takes n bytes at off away from KVM. They stay in the file.
func (v *view) unmap(off, n uint64) error {
	if err := madvise(unsafe.Add(v.kvm, off), n, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("madvise MADV_DONTNEED of the window at 0x%x, %d bytes: %w", off, n, err)
	}
	return nil
}

// revoke takes all of the window away from KVM for good: an access to it is an
// EFAULT. The addresses stay taken, since KVM's slots still point there.
func (v *view) revoke() error {
	_, err := unix.MmapPtr(-1, 0, v.kvm, uintptr(v.size), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED)
	return os.NewSyscallError("mmap over the window", err)
}

// close unmaps and closes; what is still in the file is freed as it is.
func (v *view) close() (err error) {
	if v.kvm != nil {
		err = os.NewSyscallError("munmap of the window", unix.MunmapPtr(v.kvm, uintptr(v.size)))
		v.kvm = nil
	}
	if v.alias != nil {
		err = errors.Join(err, os.NewSyscallError("munmap of the window", unix.Munmap(v.alias)))
		v.alias = nil
	}
	if v.fd >= 0 {
		err = errors.Join(err, os.NewSyscallError("close of the window", unix.Close(v.fd)))
		v.fd = -1
	}
	return err
}

// move copies src to dst. Either may be memory that the kernel can't give a
// page for (out of memory, RLIMIT_MEMLOCK): that SIGBUS becomes an error.
func move(dst, src []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverFault(&err)
	copy(dst, src)
	return nil
}

// wipe is move of zeros.
func wipe(dst []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverFault(&err)
	clear(dst)
	return nil
}

// touch makes fresh pages exist: they are zeros.
func touch(dst []byte) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverFault(&err)
	for i := 0; i < len(dst); i += memory.PageSize {
		dst[i] = 0
	}
	return nil
}

// errNoMemory is a page that the kernel didn't give.
var errNoMemory = fmt.Errorf("the kernel gives no memory (out of memory, or RLIMIT_MEMLOCK used up): %w", unix.EFAULT)

func recoverFault(err *error) {
	e := recover()
	if e == nil {
		return
	}
	if _, fault := e.(interface{ Addr() uintptr }); !fault {
		panic(e)
	}
	*err = errNoMemory
}
