package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
)

// vsockDriver is a driver for a vhost-vsock device, virtio 1.2 §5.10, in another
// process. The rings are in that process's memory, and the process makes the system
// calls that vhost expects of its owner. Bus addresses of the device are the
// process's virtual addresses.
type vsockDriver struct {
	thread *inject.Thread
	pid    int
	port   uint32 // of the listening socket
	cid    uint64 // the driver's own address
	fd     uint64 // the device, in the process
	rings  uint64 // arena of the process's
	kick   int    // eventfd
	sent   uint16 // messages that were made available
}

// The arena. Queues are laid out as in virtio 1.2 §2.7.
const (
	vsockDesc   = 0x000 // of queue 0; queue 1 has its own vsockQueue on
	vsockAvail  = 0x200
	vsockUsed   = 0x400
	vsockQueue  = 0x800
	vsockHeader = 0x1000
	vsockZeros  = 0x2000 // vhostAtOnce bytes that nobody writes
	vsockArena  = vsockZeros + vhostAtOnce

	vsockDepth = 16 // entries of a queue
	vsockTX    = 1  // the queue that the device reads, virtio 1.2 §5.10.2
)

// Requests of linux/vhost.h.
const (
	vhostSetFeatures  = 0x4008af00
	vhostSetOwner     = 0x0000af01
	vhostSetMemTable  = 0x4008af03
	vhostSetVringNum  = 0x4008af10
	vhostSetVringAddr = 0x4028af11
	vhostSetVringBase = 0x4008af12
	vhostSetVringKick = 0x4008af20
	vsockSetGuestCID  = 0x4008af60
	vsockSetRunning   = 0x4004af61
)

// Operations, virtio 1.2 §5.10.6.
const (
	vsockRequest = 1
	vsockRW      = 5
)

// vsockMessage is what a message begins with, struct virtio_vsock_hdr of
// linux/virtio_vsock.h.
type vsockMessage struct {
	SrcCID, DstCID         uint64
	SrcPort, DstPort, Size uint32
	Type, Op               uint16
	Flags, BufAlloc, Read  uint32
}

// virtqDesc is an entry of a queue's descriptor table, virtio 1.2 §2.7.5.
type virtqDesc struct {
	Addr        uint64
	Size        uint32
	Flags, Next uint16
}

// start sets the device up in the process. If it succeeds, stop must follow.
func (d *vsockDriver) start(device int) (err error) {
	if d.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	d.rings, err = d.thread.Call(unix.SYS_MMAP, 0, vsockArena, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if err != nil {
		return errors.Join(err, unix.Close(d.kick))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.stop())
		}
	}()
	fd, err := d.thread.Give(device)
	if err != nil {
		return err
	}
	kick, err := d.thread.Give(d.kick)
	if err != nil {
		return err
	}
	d.fd = uint64(fd)
	// A guest's addresses begin at 3. Random, since one in use is refused.
	d.cid = 1<<16 + rand.Uint64N(1<<30)
	const version1 = 1 << 32 // VIRTIO_F_VERSION_1
	type request struct {
		name   string
		number uint64
		arg    any
	}
	requests := []request{
		{"VHOST_SET_OWNER", vhostSetOwner, nil},
		{"VHOST_SET_FEATURES", vhostSetFeatures, uint64(version1)},
		// One region, struct vhost_memory_region, from the first page that a
		// process can have to its last.
		{"VHOST_SET_MEM_TABLE", vhostSetMemTable, []uint64{1, pageSize, 1<<47 - 2*pageSize, pageSize, 0}},
	}
	for queue := range uint64(2) {
		at := d.rings + queue*vsockQueue
		requests = append(requests,
			request{"VHOST_SET_VRING_NUM", vhostSetVringNum, []uint32{uint32(queue), vsockDepth}},
			request{"VHOST_SET_VRING_BASE", vhostSetVringBase, []uint32{uint32(queue), 0}},
			request{"VHOST_SET_VRING_ADDR", vhostSetVringAddr, []uint64{queue, at + vsockDesc, at + vsockUsed, at + vsockAvail, 0}})
	}
	requests = append(requests,
		request{"VHOST_SET_VRING_KICK", vhostSetVringKick, []uint32{vsockTX, uint32(kick)}},
		request{"VHOST_VSOCK_SET_GUEST_CID", vsockSetGuestCID, d.cid},
		request{"VHOST_VSOCK_SET_RUNNING", vsockSetRunning, uint32(1)})
	for _, r := range requests {
		if err := d.ioctl(r.name, r.number, r.arg); err != nil {
			return err
		}
	}
	return nil
}

func (d *vsockDriver) ioctl(name string, request uint64, arg any) error {
	var addr uint64
	if arg != nil {
		p, err := binary.Append(nil, binary.LittleEndian, arg)
		if err != nil {
			return err
		}
		if addr, err = d.thread.Put(p); err != nil {
			return err
		}
	}
	if _, err := d.thread.Call(unix.SYS_IOCTL, d.fd, request, addr); err != nil {
		return fmt.Errorf("ioctl %s: %w", name, err)
	}
	return nil
}

// stop takes the device from the process, and the arena.
func (d *vsockDriver) stop() error {
	err := unix.Close(d.kick)
	if d.fd != 0 {
		err = errors.Join(err, d.ioctl("VHOST_VSOCK_SET_RUNNING", vsockSetRunning, uint32(0)))
	}
	_, unmap := d.thread.Call(unix.SYS_MUNMAP, d.rings, vsockArena)
	return errors.Join(err, unmap)
}

// zeros is where vhostAtOnce bytes of zeros are.
func (d *vsockDriver) zeros() uint64 { return d.rings + vsockZeros }

// vsockPatience is how long the kernel may take for a message.
const vsockPatience = 30 * time.Second

// connect connects to the listening socket, and returns the connection's other
// end.
func (d *vsockDriver) connect(listener int) (int, error) {
	if err := d.send(vsockRequest, 0, 0); err != nil {
		return -1, err
	}
	ready := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	if n, err := unix.Poll(ready, int(vsockPatience.Milliseconds())); n == 0 || err != nil && err != unix.EINTR {
		return -1, fmt.Errorf("no vsock connection from vhost after %v: %w", vsockPatience, errors.Join(unix.ETIMEDOUT, err))
	}
	conn, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("accept a vsock connection: %w", err)
	}
	limit := unix.NsecToTimeval(int64(vsockPatience))
	if err := unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		unix.Close(conn)
		return -1, fmt.Errorf("setsockopt SO_RCVTIMEO: %w", err)
	}
	return conn, nil
}

// fetch has the device read memory of the process's, and receives it.
func (d *vsockDriver) fetch(conn int, addr uint64, p []byte) error {
	if err := d.send(vsockRW, addr, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		n, err := unix.Read(conn, p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("read a vsock socket: %w", err)
		case n == 0:
			return fmt.Errorf("read a vsock socket: %w", unix.ECONNRESET)
		default:
			p = p[n:]
		}
	}
	return nil
}

// send sends a message with size bytes at addr of the process's as payload,
// and waits until the device has read it.
func (d *vsockDriver) send(op uint16, addr uint64, size int) error {
	const next = 1 // VIRTQ_DESC_F_NEXT
	const stream, guestPort, credit = 1, 1024, 1 << 16
	header := vsockMessage{d.cid, unix.VMADDR_CID_HOST, guestPort, d.port, uint32(size), stream, op, 0, credit, 0}
	chain := []virtqDesc{
		{d.rings + vsockHeader, uint32(binary.Size(header)), 0, 0},
		{addr, uint32(size), 0, 0},
	}
	if size > 0 {
		chain[0].Flags, chain[0].Next = next, 1
	}
	queue := d.rings + vsockTX*vsockQueue
	d.sent++
	for _, w := range []struct {
		at    uint64
		value any
	}{
		{d.rings + vsockHeader, header},
		{queue + vsockDesc, chain},
		// Every message is descriptor 0. It is available once the index counts it.
		{queue + vsockAvail + 4 + 2*uint64((d.sent-1)%vsockDepth), uint16(0)},
		{queue + vsockAvail + 2, d.sent},
	} {
		if err := d.write(w.at, w.value); err != nil {
			return err
		}
	}
	if _, err := unix.Write(d.kick, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return fmt.Errorf("write an eventfd: %w", err)
	}
	for start := time.Now(); ; time.Sleep(20 * time.Microsecond) {
		var used [2]byte
		if _, err := readProcess(d.pid, used[:], queue+vsockUsed+2); err != nil {
			return fmt.Errorf("read a ring in process %d: %w", d.pid, err)
		}
		if binary.LittleEndian.Uint16(used[:]) == d.sent {
			return nil
		}
		if time.Since(start) > vsockPatience {
			return fmt.Errorf("vhost hasn't read %d bytes of process %d at %#x after %v: %w", size, d.pid, addr, vsockPatience, unix.EFAULT)
		}
	}
}

// write writes a value to the process's memory.
func (d *vsockDriver) write(addr uint64, value any) error {
	p, err := binary.Append(nil, binary.LittleEndian, value)
	if err != nil {
		return err
	}
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	if _, err := unix.ProcessVMWritev(d.pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0); err != nil {
		return fmt.Errorf("write a ring in process %d: %w", d.pid, err)
	}
	return nil
}

// listenVsock makes a socket that guests can connect to.
func listenVsock() (fd int, port uint32, err error) {
	fd, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("socket AF_VSOCK: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY}); err != nil {
		return -1, 0, fmt.Errorf("bind AF_VSOCK: %w", err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		return -1, 0, fmt.Errorf("listen AF_VSOCK: %w", err)
	}
	addr, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, fmt.Errorf("getsockname AF_VSOCK: %w", err)
	}
	return fd, addr.(*unix.SockaddrVM).Port, nil
}
