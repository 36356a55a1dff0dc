package attach

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bridgeView is a second mapping of a secret file, which KVM can follow without
// GUP. It is for KVM_SET_USER_MEMORY_REGION alone: this process reads and writes
// the memory through its own mapping of the file.
type bridgeView struct {
	addr unsafe.Pointer // HVA; nil once closed
	size uint64
}

// bindRequest is struct offmap_bind.
type bindRequest struct {
	flags uint32
	fd    int32
	addr  unsafe.Pointer
	len   uint64
}

// openBridgeView makes a view of the first size bytes of the file secretFD, which
// is from memfd_secret(2). The caller has mapped the file from its offset 0 on at
// owner. size is a multiple of the page size. The device is BridgeDevice where
// device is "".
//
// The first touch of a page, by the guest or by the owner, allocates it. The
// module faults it in through the mapping at owner, which therefore stays until
// the view is closed. secretFD may be closed when openBridgeView returns.
func openBridgeView(device string, secretFD int, owner unsafe.Pointer, size uint64) (*bridgeView, error) {
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
	return &bridgeView{addr: view, size: size}, nil
}

// Close unmaps the view; KVM drops its mappings of it. It can be called again.
func (v *bridgeView) Close() error {
	if v.addr == nil {
		return nil
	}
	if err := unix.MunmapPtr(v.addr, uintptr(v.size)); err != nil {
		return os.NewSyscallError("munmap of the bridge's view", err)
	}
	v.addr = nil
	return nil
}
