package inject

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Scratch is the address of ScratchSize bytes of the process's memory that
// are the caller's, for arguments. Give uses them too.
func (t *Thread) Scratch() uint64 { return t.page + pageSize }

// Put writes p to the start of the scratch memory, and returns its address.
func (t *Thread) Put(p []byte) (uint64, error) {
	n, err := unix.ProcessVMWritev(t.pid, iovec(p), []unix.RemoteIovec{{Base: uintptr(t.Scratch()), Len: len(p)}}, 0)
	if err != nil || n != len(p) {
		return 0, fmt.Errorf("process_vm_writev of %d bytes of arguments for process %d: %d, %w", len(p), t.pid, n, err)
	}
	return t.Scratch(), nil
}

// Get reads the start of the scratch memory into p.
func (t *Thread) Get(p []byte) error {
	n, err := unix.ProcessVMReadv(t.pid, iovec(p), []unix.RemoteIovec{{Base: uintptr(t.Scratch()), Len: len(p)}}, 0)
	if err != nil || n != len(p) {
		return fmt.Errorf("process_vm_readv of %d bytes of results in process %d: %d, %w", len(p), t.pid, n, err)
	}
	return nil
}

func iovec(p []byte) []unix.Iovec {
	v := []unix.Iovec{{Base: &p[0]}}
	v[0].SetLen(len(p))
	return v
}

// Take returns a descriptor of the caller's, to be closed, for the file that
// the process has as descriptor fd, by pidfd_getfd(2). They share its flags:
// os.File, which changes them, is not for it.
func (t *Thread) Take(fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(t.pid, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open of process %d: %w", t.pid, err)
	}
	defer unix.Close(pidfd)
	ours, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_getfd of descriptor %d of process %d: %w", fd, t.pid, err)
	}
	return ours, nil
}

// CloseAtEnd closes a descriptor of the process's when the thread ends.
func (t *Thread) CloseAtEnd(fd int) { t.fds = append(t.fds, fd) }

// Give gives the process a descriptor for a file that the caller has as fd,
// and returns its number there. It is closed when the thread ends.
//
// It goes through a socket, so that neither user nor PID namespace of the
// process matters.
func (t *Thread) Give(fd int) (int, error) {
	if !t.connected {
		if err := t.connect(); err != nil {
			return -1, fmt.Errorf("a channel to process %d: %w", t.pid, err)
		}
	}
	if err := unix.Sendmsg(t.channel, []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return -1, fmt.Errorf("sendmsg of descriptor %d: %w", fd, err)
	}
	// struct msghdr, recvmsg(2), what it points to behind it.
	const iov, control, data, size = 64, 128, 192, 193
	controlLen := unix.CmsgSpace(4)
	m := make([]byte, size)
	binary.LittleEndian.PutUint64(m[16:], t.Scratch()+iov)
	binary.LittleEndian.PutUint64(m[24:], 1)
	binary.LittleEndian.PutUint64(m[32:], t.Scratch()+control)
	binary.LittleEndian.PutUint64(m[40:], uint64(controlLen))
	binary.LittleEndian.PutUint64(m[iov:], t.Scratch()+data)
	binary.LittleEndian.PutUint64(m[iov+8:], 1)
	addr, err := t.Put(m)
	if err != nil {
		return -1, err
	}
	if _, err := t.Call(unix.SYS_RECVMSG, uint64(t.remote), addr, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT); err != nil {
		return -1, err
	}
	if err := t.Get(m); err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(m[control : control+controlLen])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%d control messages for process %d: %v", len(messages), t.pid, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors for process %d: %v", len(fds), t.pid, err)
	}
	t.CloseAtEnd(fds[0])
	return fds[0], nil
}

// connect makes a pair of sockets in the process, and takes one.
func (t *Thread) connect() error {
	if _, err := t.Call(unix.SYS_SOCKETPAIR, unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0, t.Scratch()); err != nil {
		return err
	}
	pair := make([]byte, 8)
	err := t.Get(pair)
	if err != nil {
		return err
	}
	theirs, ours := int(binary.LittleEndian.Uint32(pair)), int(binary.LittleEndian.Uint32(pair[4:]))
	t.CloseAtEnd(theirs)
	t.CloseAtEnd(ours)
	if t.channel, err = t.Take(ours); err != nil {
		return err
	}
	t.remote, t.connected = theirs, true
	return nil
}
