package limits

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"offmap/internal/process/sandbox"
	"offmap/memory"
)

// ioctl is the gateway of the devices here. arg stays a pointer until the call.
func ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Of include/uapi/linux/io_uring.h.
const (
	registerBuffers = 0   // IORING_REGISTER_BUFFERS
	ringParams      = 120 // bytes of struct io_uring_params
)

// pin registers mem as an io_uring buffer, which pins its pages for long, and
// lets go of it again, io_uring_register(2).
func pin(mem []byte) error {
	var params [ringParams]byte // all for the kernel to choose
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return skipped("io_uring_setup: %v", sandbox.Suspect("io_uring_setup", errno))
	}
	defer unix.Close(int(ring))
	iov := unix.Iovec{Base: unsafe.SliceData(mem), Len: uint64(len(mem))}
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, ring, registerBuffers, uintptr(unsafe.Pointer(&iov)), 1, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// UDMABUF_CREATE and its structure (include/uapi/linux/udmabuf.h).
const (
	udmabufRequest = 0x40187542
	udmabufCloexec = 1
)

type udmabufArg struct {
	memfd, flags uint32
	offset, size uint64
}

// udmabufCreate returns a dma-buf of the first size bytes of a memfd.
func udmabufCreate(device, memfd int, size uint64) (int, error) {
	arg := udmabufArg{memfd: uint32(memfd), flags: udmabufCloexec, size: size}
	return ioctl(device, udmabufRequest, unsafe.Pointer(&arg))
}

// vhost-vsock has a queue for each direction. Each is in a page of its own, as
// small as can be (virtio 1.2 §2.7): two descriptors, the available ring and
// the used ring.
const (
	vhostQueues    = 2
	vhostQueueSize = 2
	vhostAvail     = 1024
	vhostUsed      = 2048
)

// The requests that vhost-vsock is set up with (include/uapi/linux/vhost.h).
const (
	vhostSetOwner     = 0xaf01
	vhostSetFeatures  = 0x4008af00
	vhostSetMemTable  = 0x4008af03
	vhostSetVringNum  = 0x4008af10
	vhostSetVringAddr = 0x4028af11
	vhostSetVringBase = 0x4008af12
	vhostVsockSetCID  = 0x4008af60
	vhostVsockRun     = 0x4004af61
)

// Its structures (include/uapi/linux/vhost_types.h).
type (
	vringState struct{ index, num uint32 }
	vringAddr  struct {
		index, flags           uint32
		desc, used, avail, log uint64
	}
	// vhostTable is struct vhost_memory with one region.
	vhostTable struct {
		regions, _             uint32
		guest, size, user, res uint64
	}
)

// startVsock gives vhost-vsock two queues in mem, from guest-physical address 0
// on, and starts it. Closing the device stops it.
func startVsock(device int, mem []byte) error {
	type step struct {
		name    string
		request uintptr
		arg     unsafe.Pointer
	}
	base := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
	var features, cid, run = uint64(0), uint64(0x6f66666d), int32(1)
	steps := []step{
		{"VHOST_SET_OWNER", vhostSetOwner, nil},
		{"VHOST_SET_FEATURES", vhostSetFeatures, unsafe.Pointer(&features)},
		{"VHOST_SET_MEM_TABLE", vhostSetMemTable, unsafe.Pointer(&vhostTable{regions: 1, size: uint64(len(mem)), user: base})},
	}
	for q := range uint32(vhostQueues) {
		at := base + uint64(q)*memory.PageSize
		steps = append(steps,
			step{"VHOST_SET_VRING_NUM", vhostSetVringNum, unsafe.Pointer(&vringState{q, vhostQueueSize})},
			step{"VHOST_SET_VRING_BASE", vhostSetVringBase, unsafe.Pointer(&vringState{q, 0})},
			step{"VHOST_SET_VRING_ADDR", vhostSetVringAddr, unsafe.Pointer(&vringAddr{index: q, desc: at, avail: at + vhostAvail, used: at + vhostUsed})},
		)
	}
	steps = append(steps,
		step{"VHOST_VSOCK_SET_GUEST_CID", vhostVsockSetCID, unsafe.Pointer(&cid)},
		step{"VHOST_VSOCK_SET_RUNNING", vhostVsockRun, unsafe.Pointer(&run)},
	)
	for _, s := range steps {
		if _, err := ioctl(device, s.request, s.arg); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
