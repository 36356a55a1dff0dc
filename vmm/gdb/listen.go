package gdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Address is where GDB connects: a TCP port of the loopback interface, or a unix
// socket's path.
type Address struct {
	network, name string
}

// ParseAddress parses [HOST]:PORT, where HOST is the loopback interface's, or a path.
// Without HOST it is 127.0.0.1. Other interfaces are refused: the protocol has no
// authentication.
func ParseAddress(text string) (Address, error) {
	if strings.Contains(text, "/") {
		return Address{"unix", text}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return Address{}, fmt.Errorf("%q is no address: it takes [HOST]:PORT, or the path of a unix socket with a slash in it", text)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return Address{}, fmt.Errorf("%q is not on the loopback interface: whoever connects reads all of the guest's RAM, so only this host may (a unix socket can be forwarded: ssh -L)", text)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Address{}, fmt.Errorf("%q has no port from 0 (any) to 65535", text)
	}
	return Address{"tcp", net.JoinHostPort(host, port)}, nil
}

// Private reports whether only this user, and root, can connect.
func (a Address) Private() bool { return a.network == "unix" }

// Server takes clients, one after the other.
type Server struct {
	listener net.Listener

	mu     sync.Mutex
	conn   net.Conn // of the client that is served
	closed bool
	done   chan struct{} // closed when Start's goroutine has ended; nil before
}

// Listen opens the address. A unix socket has mode 0600, and Close removes it.
func Listen(ctx context.Context, a Address) (*Server, error) {
	lc := net.ListenConfig{}
	if a.network == "unix" {
		lc.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			// bind(2) gives the file the mode of the socket.
			if e := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); e != nil {
				return e
			}
			return os.NewSyscallError("fchmod", err)
		}
	}
	l, err := lc.Listen(ctx, a.network, a.name)
	if err != nil {
		if a.network == "unix" && errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%s exists: remove it if no program uses it", a.name)
		}
		return nil, err
	}
	return &Server{listener: l}, nil
}

// Addr returns the address as GDB's command target remote takes it.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Start serves clients in the background until Close. Errors of a client end this
// client's session only; warn gets them.
func (s *Server) Start(t Target, warn func(error)) {
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		for {
			conn, err := s.listener.Accept()
			if err != nil {
				return
			}
			if !s.take(conn) {
				return
			}
			if err := Serve(conn, t); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrUnexpectedEOF) {
				warn(fmt.Errorf("gdb: %w", err))
			}
			conn.Close()
		}
	}()
}

func (s *Server) take(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return false
	}
	s.conn = conn
	return true
}

// lastWords is how long a client may take to hear that the guest has ended.
const lastWords = 300 * time.Millisecond

// Close ends the server, when the guest has ended. It waits until nothing uses the
// target any more.
func (s *Server) Close() error {
	err := s.listener.Close()
	if s.done == nil {
		return err
	}
	select {
	case <-s.done:
	case <-time.After(lastWords):
	}
	s.mu.Lock()
	s.closed = true
	if s.conn != nil {
		s.conn.Close()
	}
	s.mu.Unlock()
	<-s.done
	return err
}
