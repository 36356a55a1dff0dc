package window

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/memory"
)

// view is the window's file and what is mapped of it.
//
// The file is a memfd as large as guest RAM, of which only the resident pages
// exist. kvm is the mapping behind KVM's slots; Go never touches it (see
// package uffd). The pager moves pages between file and store with pread and
// pwrite, straight from and to the secret pages: that is cheaper than a second
// mapping, whose page faults and TLB flushes would come on top, and it returns
// an error where a store to memory would be a SIGBUS.
type view struct {
	fd    int
	size  uint64
	kvm   unsafe.Pointer
	store []byte
	// look is a page of secret memory, scratch, to look at a frame's bytes.
	look    []byte
	scratch *memory.RAM
	// locked, where the host has swap, is a second mapping that holds every
	// frame in memory (mlock2, MLOCK_ONFAULT): no frame is ever swapped.
	locked []byte
}

// openView makes the file and the mappings. A failure leaves nothing behind.
func openView(ram *memory.RAM) (*view, error) {
	size := ram.Layout().Size()
	v := &view{fd: -1, size: size, store: unsafe.Slice((*byte)(ram.Pointer()), size)}
	if err := v.create(); err != nil {
		return nil, errors.Join(err, v.close())
	}
	return v, nil
}

func (v *view) create() (err error) {
	if v.fd, err = unix.MemfdCreate("offmap-window", unix.MFD_CLOEXEC); err != nil {
		return fmt.Errorf("file of the window: %w", sandbox.Judge("memfd_create", err))
	}
	if err := unix.Ftruncate(v.fd, int64(v.size)); err != nil {
		return fmt.Errorf("ftruncate of the window to %d bytes: %w", v.size, err)
	}
	if v.kvm, err = unix.MmapPtr(v.fd, 0, nil, uintptr(v.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mmap of the window, %d bytes: %w", v.size, err)
	}
	if err := memory.Seclude(v.kvm, v.size); err != nil {
		return err
	}
	if HostSwaps() {
		if err := v.lock(); err != nil {
			return err
		}
	}
	layout, err := memory.LayoutOf(memory.Region{Size: memory.PageSize})
	if err != nil {
		return err
	}
	if v.scratch, err = memory.New(memory.Secret, layout); err != nil {
		return err
	}
	v.look = unsafe.Slice((*byte)(v.scratch.Pointer()), memory.PageSize)
	return nil
}

// lock makes the second mapping.
func (v *view) lock() (err error) {
	if v.locked, err = unix.Mmap(v.fd, 0, int(v.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("second mmap of the window, %d bytes: %w", v.size, err)
	}
	p := unsafe.Pointer(&v.locked[0])
	if err := memory.Seclude(p, v.size); err != nil {
		return err
	}
	const onFault = 1 // MLOCK_ONFAULT
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(p), uintptr(v.size), onFault); errno != 0 {
		return fmt.Errorf("mlock2 of the window, %d KiB: %w: this host has swap, to which pages of the guest must not go: "+
			"run as root (CAP_IPC_LOCK), raise RLIMIT_MEMLOCK by that much, or `sudo swapoff -a`", v.size>>10, sandbox.Suspect("mlock2", errno))
	}
	return nil
}

func madvise(p unsafe.Pointer, n uint64, advice int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_MADVISE, uintptr(p), uintptr(n), uintptr(advice)); errno != 0 {
		return errno
	}
	return nil
}

// Pointer is where KVM's slots find backend offset 0 (the HVA). It is nothing
// to dereference.
func (w *Window) Pointer() unsafe.Pointer { return w.view.kvm }

// base is the address of KVM's mapping, for userfaultfd.
func (v *view) base() uintptr { return uintptr(v.kvm) }

// unmap takes pages [lo, hi) away from KVM. They stay in the file.
func (v *view) unmap(lo, hi uint32) error {
	n := uint64(offset(hi - lo))
	if err := madvise(unsafe.Add(v.kvm, offset(lo)), n, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("madvise MADV_DONTNEED of the window, %d bytes: %w", n, err)
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

// The pager's system calls don't tell Go's scheduler of themselves. None of
// them waits for what another goroutine does, and they take microseconds; but
// a thread that leaves a system call wakes the runtime's monitor, which on a
// machine of few CPUs then runs in the guest's place.

// pread is pread(2).
func pread(fd int, p []byte, off int64) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(off), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// pwrite is pwrite(2).
func pwrite(fd int, p []byte, off int64) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PWRITE64, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(off), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// punch is fallocate(2) with FALLOC_FL_PUNCH_HOLE.
func punch(fd int, off, n int64) error {
	const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if _, _, errno := unix.RawSyscall6(unix.SYS_FALLOCATE, uintptr(fd), mode, uintptr(off), uintptr(n), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// close unmaps and closes; what is still in the file is freed as it is.
func (v *view) close() error {
	var errs []error
	if v.kvm != nil {
		errs = append(errs, os.NewSyscallError("munmap of the window", unix.MunmapPtr(v.kvm, uintptr(v.size))))
		v.kvm = nil
	}
	if v.locked != nil {
		errs = append(errs, os.NewSyscallError("munmap of the locked window", unix.Munmap(v.locked)))
		v.locked = nil
	}
	if v.scratch != nil {
		errs = append(errs, v.scratch.Close())
	}
	if v.fd >= 0 {
		errs = append(errs, os.NewSyscallError("close of the window", unix.Close(v.fd)))
		v.fd = -1
	}
	return errors.Join(errs...)
}
