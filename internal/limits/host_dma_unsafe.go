package limits

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

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

// pin registers mem as an io_uring buffer, which pins its pages for long, and
// lets go of it again (io_uring_register(2), IORING_REGISTER_BUFFERS).
func pin(mem []byte) error {
	const registerBuffers = 0
	var params [120]byte // struct io_uring_params, all of it for the kernel to choose
	ring, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return skipped("io_uring_setup: %v", errno)
	}
	defer unix.Close(int(ring))
	iov := unix.Iovec{Base: unsafe.SliceData(mem), Len: uint64(len(mem))}
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, ring, registerBuffers, uintptr(unsafe.Pointer(&iov)), 1, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// udmabufCreate is UDMABUF_CREATE (include/uapi/linux/udmabuf.h): it returns a
// dma-buf of the first size bytes of a memfd.
func udmabufCreate(device, memfd int, size uint64) (int, error) {
	const create = 0x40187542 // _IOW('u', 0x42, struct udmabuf_create)
	arg := struct {
		memfd, flags uint32
		offset, size uint64
	}{memfd: uint32(memfd), flags: 1 /* UDMABUF_FLAGS_CLOEXEC */, size: size}
	return ioctl(device, create, unsafe.Pointer(&arg))
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

// startVsock gives vhost-vsock two queues in mem, from guest-physical address 0
// on, and starts it (include/uapi/linux/vhost.h and vhost_types.h). Closing the
// device stops it.
func startVsock(device int, mem []byte) error {
	type (
		step struct {
			name    string
			request uintptr
			arg     unsafe.Pointer
		}
		state   struct{ index, num uint32 }
		address struct {
			index, flags            uint32
			desc, used, avail, logs uint64
		}
		table struct {
			regions, _                uint32
			guest, size, user, unused uint64
		}
	)
	base := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
	var features, cid, run = uint64(0), uint64(0x6f66666d), int32(1)
	steps := []step{
		{"VHOST_SET_OWNER", 0xaf01, nil},
		{"VHOST_SET_FEATURES", 0x4008af00, unsafe.Pointer(&features)},
		{"VHOST_SET_MEM_TABLE", 0x4008af03, unsafe.Pointer(&table{regions: 1, size: uint64(len(mem)), user: base})},
	}
	for q := range uint32(vhostQueues) {
		at := base + uint64(q)*memory.PageSize
		steps = append(steps,
			step{"VHOST_SET_VRING_NUM", 0x4008af10, unsafe.Pointer(&state{q, vhostQueueSize})},
			step{"VHOST_SET_VRING_BASE", 0x4008af12, unsafe.Pointer(&state{q, 0})},
			step{"VHOST_SET_VRING_ADDR", 0x4028af11, unsafe.Pointer(&address{index: q, desc: at, avail: at + vhostAvail, used: at + vhostUsed})},
		)
	}
	steps = append(steps,
		step{"VHOST_VSOCK_SET_GUEST_CID", 0x4008af60, unsafe.Pointer(&cid)},
		step{"VHOST_VSOCK_SET_RUNNING", 0x4004af61, unsafe.Pointer(&run)},
	)
	for _, s := range steps {
		if _, err := ioctl(device, s.request, s.arg); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
