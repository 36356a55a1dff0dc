package attach

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bridge is a second mapping of a secret file, the view, that KVM can follow
// without GUP. It is for KVM_SET_USER_MEMORY_REGION alone: this process reads
// and writes the memory through its own mapping of the file.
type Bridge struct {
	view unsafe.Pointer
	size uint64
}

// bindRequest is struct offmap_bind.
type bindRequest struct {
	flags uint32
	fd    int32
	addr  unsafe.Pointer
	len   uint64
}

// OpenBridge makes a view of the first size bytes of the file secretFD, which
// is from memfd_secret(2) and mapped by the caller, from its offset 0 on, at
// owner. size is a multiple of the page size. The device is BridgeDevice where
// device is "".
//
// A page comes into being when the guest or the owner first touches it. That
// takes the mapping at owner: it stays until the Bridge is closed. secretFD
// isn't needed any more when OpenBridge returns.
func OpenBridge(device string, secretFD int, owner unsafe.Pointer, size uint64) (*Bridge, error) {
	fd, err := openBridgeDevice(device)
	if err != nil {
		return nil, err
	}
	// The view keeps the device open by itself.
	defer unix.Close(fd)

	req := bindRequest{fd: int32(secretFD), addr: owner, len: size}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), bridgeBind, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return nil, fmt.Errorf("ioctl OFFMAP_IOC_BIND of descriptor %d, mapped at %p for %d bytes: %w",
			secretFD, owner, size, errno)
	}
	view, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of the bridge's view, %d bytes: %w", size, err)
	}
	return &Bridge{view: view, size: size}, nil
}

// Pointer is where the view is mapped in this process (the HVA), for KVM. It
// is not Go memory and nothing to dereference.
func (b *Bridge) Pointer() unsafe.Pointer { return b.view }

// Close takes the view away; KVM drops what it has of it. It can be called
// again.
func (b *Bridge) Close() error {
	if b.view == nil {
		return nil
	}
	if err := unix.MunmapPtr(b.view, uintptr(b.size)); err != nil {
		return os.NewSyscallError("munmap of the bridge's view", err)
	}
	b.view = nil
	return nil
}
