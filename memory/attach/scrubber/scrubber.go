package scrubber

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/process/freestanding"
)

// name is the name of the process. It doesn't contain "offmap", so that "pkill
// offmap" kills the VMM and not the scrubber.
const name = "window-scrubber"

//go:generate sh ../../../internal/process/freestanding/build.sh scrubber.S

//go:embed scrubber.bin
var image []byte

var (
	errPID1 = errors.New("this is process 1 of its PID namespace, and the kernel would kill the scrubber together with it: " +
		"run it as a child of an init process (in a container, of a shell or a service manager)")
	errNotReady = errors.New("not ready in time")
	errRunning  = errors.New("still running after it was told to end: it is stopped, or there are pages that it can't overwrite")
)

// Each takes about a millisecond on a host that isn't overloaded.
var (
	startTimeout = 10 * time.Second
	closeTimeout = 10 * time.Second
)

// Scrubber is a running scrubber. When Close is called or this process ends, the
// scrubber wipes the pages of the window that are left, and exits.
type Scrubber struct {
	process *os.Process
	socket  *os.File // the VMM's end; the scrubber reads end of file when it is closed

	done  chan struct{}
	ended error // nil for exit status 0; set before done is closed

	once     sync.Once
	closeErr error
}

// Start starts a scrubber for a window, the descriptor of a memfd that is open for
// reading and writing, and returns when the scrubber is ready. The descriptor
// stays the caller's.
func Start(window int) (*Scrubber, error) {
	s, err := start(window)
	if err != nil {
		return nil, fmt.Errorf("no scrubber for the window, and without one nothing wipes it if this process is killed: %w", err)
	}
	return s, nil
}

func start(window int) (*Scrubber, error) {
	if os.Getpid() == 1 {
		return nil, errPID1
	}
	file, err := open(window)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()

	// Descriptors SOCKET and WINDOW of scrubber.S.
	process, err := freestanding.Start(name, image, []*os.File{theirs, file}, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		ours.Close()
		return nil, err
	}
	s := &Scrubber{process: process, socket: ours, done: make(chan struct{})}
	// The goroutine also keeps the socket reachable. As garbage it would be closed.
	go s.wait()
	theirs.Close() // so that ready reads end of file if the scrubber exits
	if err := s.ready(); err != nil {
		ours.Close()
		process.Kill()
		<-s.done
		return nil, err
	}
	return s, nil
}

// ready waits for the byte that the scrubber sends when it is ready.
func (s *Scrubber) ready() error {
	if err := s.socket.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("deadline for the scrubber: %w", err)
	}
	switch _, err := s.socket.Read(make([]byte, 1)); {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		<-s.done
		return fmt.Errorf("the scrubber ended before it was ready: %w", s.ended)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the scrubber (process %d): %w: %v", s.PID(), errNotReady, startTimeout)
	case err != nil:
		return fmt.Errorf("read from the scrubber: %w", err)
	}
	return nil
}

// wait reaps the process.
func (s *Scrubber) wait() {
	state, err := s.process.Wait()
	switch {
	case err != nil:
		s.ended = fmt.Errorf("wait: %w", err)
	case state.ExitCode() > 0:
		s.ended = fmt.Errorf("rt_sigprocmask, close_range, prctl or mmap failed in it: %w", syscall.Errno(state.ExitCode()))
	case !state.Success():
		s.ended = &exec.ExitError{ProcessState: state}
	}
	close(s.done)
}

// PID returns the scrubber's process ID.
func (s *Scrubber) PID() int { return s.process.Pid }

// Done returns a channel that is closed when the scrubber's process has ended. If
// that is before Close, the process was killed and nothing will wipe the window:
// stop the guest, wipe the window, and call Close, which returns how it ended.
func (s *Scrubber) Done() <-chan struct{} { return s.done }

// Close makes the scrubber wipe what is left in the window and exit, and waits for
// that for up to 10 s. The window must not be written to any more. The error says
// whether the scrubber failed or was killed, now or before. A scrubber that is
// still running after 10 s isn't killed, since it may be wiping.
func (s *Scrubber) Close() error {
	s.once.Do(func() { s.closeErr = s.close(closeTimeout) })
	return s.closeErr
}

func (s *Scrubber) close(timeout time.Duration) error {
	err := s.socket.Close()
	select {
	case <-s.done:
		if s.ended != nil {
			err = errors.Join(err, fmt.Errorf("the window's scrubber (process %d) failed: %w", s.PID(), s.ended))
		}
	case <-time.After(timeout):
		err = errors.Join(err, fmt.Errorf("the window's scrubber (process %d): %v: %w", s.PID(), timeout, errRunning))
	}
	return err
}

// socketpair returns the VMM's end of a socket pair and the scrubber's.
func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair for the scrubber: %w", err)
	}
	// A deadline needs a descriptor that doesn't block. The scrubber needs one
	// that does.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("making the scrubber's socket non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket to the scrubber"), os.NewFile(uintptr(fds[1]), "socket of the scrubber"), nil
}
