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

// windowFile is the window's file and its mappings.
//
// The file is a memfd as large as guest RAM. Only pages in the window have memory
// in it. kvm is the mapping for KVM's slots, which Go code never accesses (see
// package uffd). The pager copies between file and store with pread and pwrite,
// directly from and to the secret pages. A second mapping of the file would cost
// page faults and TLB flushes as well, and an access that can't be satisfied would
// be a SIGBUS and not an error.
type windowFile struct {
	fd    int
	size  uint64
	kvm   unsafe.Pointer
	store []byte
	// buf is a page of secret memory in which saveFirst compares a frame's bytes.
	buf *secretBuffer
	// locked is a second mapping that locks every frame in memory (mlock2,
	// MLOCK_ONFAULT). It is nil if the host has no swap.
	locked []byte
}

// openWindowFile creates the file and the mappings.
func openWindowFile(ram *memory.RAM) (*windowFile, error) {
	size := ram.Layout().Size()
	f := &windowFile{fd: -1, size: size, store: unsafe.Slice((*byte)(ram.Pointer()), size)}
	if err := f.create(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *windowFile) create() (err error) {
	if f.fd, err = unix.MemfdCreate("offmap-window", unix.MFD_CLOEXEC); err != nil {
		return fmt.Errorf("file of the window: %w", sandbox.Judge("memfd_create", err))
	}
	if err := unix.Ftruncate(f.fd, int64(f.size)); err != nil {
		return fmt.Errorf("ftruncate of the window to %d bytes: %w", f.size, err)
	}
	if f.kvm, err = unix.MmapPtr(f.fd, 0, nil, uintptr(f.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mmap of the window, %d bytes: %w", f.size, err)
	}
	if err := memory.Seclude(f.kvm, f.size); err != nil {
		return err
	}
	if HostSwaps() {
		if err := f.lock(); err != nil {
			return err
		}
	}
	f.buf, err = newSecretBuffer(memory.PageSize)
	return err
}

// secretBuffer is secret memory for guest bytes on their way. All of its pages are
// allocated, so that an access can't fail.
type secretBuffer struct {
	ram *memory.RAM
	mem []byte
}

// newSecretBuffer makes a buffer of size bytes, which is a multiple of the page size.
func newSecretBuffer(size uint64) (*secretBuffer, error) {
	layout, err := memory.LayoutOf(memory.Region{Size: size})
	if err != nil {
		return nil, err
	}
	ram, err := memory.New(memory.Secret, layout)
	if err != nil {
		return nil, err
	}
	for at := uint64(0); at < size; at += memory.PageSize {
		if _, err := ram.WriteAt([]byte{0}, memory.GPA(at)); err != nil {
			return nil, errors.Join(err, ram.Close())
		}
	}
	return &secretBuffer{ram, unsafe.Slice((*byte)(ram.Pointer()), size)}, nil
}

func (b *secretBuffer) close() error { return b.ram.Close() }

// lock creates the second mapping, locked.
func (f *windowFile) lock() (err error) {
	if f.locked, err = memory.MapSecluded(f.fd, f.size); err != nil {
		return fmt.Errorf("second mapping of the window: %w", err)
	}
	p := unsafe.Pointer(unsafe.SliceData(f.locked))
	const onFault = 1 // MLOCK_ONFAULT
	if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, uintptr(p), uintptr(f.size), onFault); errno != 0 {
		return fmt.Errorf("mlock2 of the window, %d KiB: %w: this host has swap, to which pages of the guest must not go: "+
			"run as root (CAP_IPC_LOCK), raise RLIMIT_MEMLOCK by that much, or `sudo swapoff -a`", f.size>>10, sandbox.Suspect("mlock2", errno))
	}
	return nil
}

func madvise(p unsafe.Pointer, n uint64, advice int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_MADVISE, uintptr(p), uintptr(n), uintptr(advice)); errno != 0 {
		return errno
	}
	return nil
}

// Pointer returns the host virtual address of KVM's mapping, for its slots. It
// must not be dereferenced: see package uffd.
func (w *Window) Pointer() unsafe.Pointer { return w.file.kvm }

// base returns the address of KVM's mapping, for userfaultfd.
func (f *windowFile) base() uintptr { return uintptr(f.kvm) }

// unmap unmaps pages [lo, hi) from KVM's mapping. They stay in the file.
func (f *windowFile) unmap(lo, hi uint32) error {
	n := uint64(offset(hi - lo))
	if err := madvise(unsafe.Add(f.kvm, offset(lo)), n, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("madvise MADV_DONTNEED of the window, %d bytes: %w", n, err)
	}
	return nil
}

// revoke replaces KVM's mapping by an inaccessible one, so that an access returns
// EFAULT. The address range stays reserved, since KVM's slots refer to it.
func (f *windowFile) revoke() error {
	_, err := unix.MmapPtr(-1, 0, f.kvm, uintptr(f.size), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED)
	return os.NewSyscallError("mmap over the window", err)
}

// The pager's system calls are raw: Go's scheduler doesn't know of them. They take
// microseconds and don't wait for another goroutine. With a normal system call,
// the thread would wake the runtime's monitor thread, which takes the CPU from the
// guest on a machine of few CPUs.

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

// close unmaps and closes the file. Frames that it still has are freed unwiped.
func (f *windowFile) close() error {
	var errs []error
	if f.kvm != nil {
		errs = append(errs, os.NewSyscallError("munmap of the window", unix.MunmapPtr(f.kvm, uintptr(f.size))))
		f.kvm = nil
	}
	if f.locked != nil {
		errs = append(errs, os.NewSyscallError("munmap of the locked window", unix.Munmap(f.locked)))
		f.locked = nil
	}
	if f.buf != nil {
		errs = append(errs, f.buf.close())
	}
	if f.fd >= 0 {
		errs = append(errs, os.NewSyscallError("close of the window", unix.Close(f.fd)))
		f.fd = -1
	}
	return errors.Join(errs...)
}
