// Package terminal makes the terminal of a guest's console raw while the guest
// runs, and restores its mode however this process ends.
//
// # Foreground and background
//
// A terminal has one process group in its foreground. If another group reads from
// the terminal or sets its mode, the kernel stops that group with SIGTTIN or
// SIGTTOU (termios(3), tty_check_change in drivers/tty). A guest must not stop
// then: under timeout(1), which makes a process group of its own, nobody would
// continue it. So this package neither reads nor sets the terminal while this
// process is in the background, and makes it raw when the process comes to the
// foreground. The kernel signals that only to a stopped process, so a running one
// has to look.
//
// # The end
//
// Close restores the terminal. If the process ends without running Go code, the
// keeper restores it.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/process/signals"
)

// lookInterval is how often a process in the background looks whether it has come
// to the foreground.
const lookInterval = 250 * time.Millisecond

// raw says that a terminal is raw now.
var raw atomic.Bool

// IsRaw reports whether a terminal is raw now, so that lines which go there
// need carriage returns.
func IsRaw() bool { return raw.Load() }

// Terminal is a terminal that this process reads from. A nil Terminal does nothing.
type Terminal struct {
	tty   *os.File
	debug func(string)
	wake  *os.File // a write to it makes Read look again
	woken *os.File

	signals chan os.Signal
	obeying sync.WaitGroup

	mu        sync.Mutex
	wanted    bool // the terminal is to be raw, in the foreground
	suspended bool // this process is about to be stopped
	closed    bool
	raw       bool
	before    unix.Termios // its settings before it was raw
	keeper    *keeper
}

// Open returns f's terminal, or nil if f isn't a terminal or has hung up. From
// then on this process ignores SIGTTOU, so that it can write to a terminal from
// the background even after stty tostop. Programs that it starts inherit that.
// It calls debug with messages for developers.
func Open(f *os.File, debug func(string)) (*Terminal, error) {
	signal.Ignore(unix.SIGTTOU)
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil, nil
	}
	woken, wake, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return &Terminal{tty: f, debug: debug, wake: wake, woken: woken}, nil
}

// Start makes the terminal raw, now or when this process comes to the foreground.
// While the process is stopped by SIGTSTP, the terminal has its old mode.
func (t *Terminal) Start() error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var err error
	if t.keeper, err = startKeeper(t.tty); err != nil {
		t.debug("if this process is killed, the terminal stays raw: " + err.Error())
	}
	t.wanted = true
	if err := t.settle(); err != nil {
		t.keeper.stop()
		t.keeper = nil
		return err
	}
	t.signals = make(chan os.Signal, 4)
	signal.Notify(t.signals, unix.SIGCONT, unix.SIGTSTP)
	came := t.signals
	t.obeying.Go(func() { t.obey(came) })
	return nil
}

// Read implements io.Reader: it returns what is typed while this process is in
// the foreground. It ends with os.ErrClosed after Interrupt or Close.
func (t *Terminal) Read(p []byte) (int, error) {
	for {
		foreground, err := t.look()
		if err != nil {
			return 0, err
		}
		files := []unix.PollFd{{Fd: int32(t.woken.Fd()), Events: unix.POLLIN}}
		timeout := int(lookInterval.Milliseconds())
		if foreground {
			files = append(files, unix.PollFd{Fd: int32(t.tty.Fd()), Events: unix.POLLIN})
			timeout = -1
		}
		if _, err := unix.Poll(files, timeout); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, os.NewSyscallError("poll", err)
		}
		if files[0].Revents != 0 {
			if _, err := t.woken.Read(make([]byte, 16)); err != nil {
				return 0, err
			}
			continue
		}
		// It may have lost the foreground while it waited.
		if len(files) < 2 || files[1].Revents == 0 || !t.foreground() {
			continue
		}
		switch n, err := unix.Read(int(t.tty.Fd()), p); {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		default:
			return max(n, 0), readError(n, err)
		}
	}
}

// Interrupt ends Read for good.
func (t *Terminal) Interrupt() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		_, _ = t.wake.Write([]byte{0}) // the pipe is never full of these
	}
}

// Close ends Read and restores the terminal. It may be called more than once.
func (t *Terminal) Close() {
	if t == nil {
		return
	}
	t.Interrupt()
	t.mu.Lock()
	t.wanted = false
	t.restore()
	t.keeper.stop()
	t.keeper = nil
	if t.signals != nil {
		signal.Stop(t.signals)
		close(t.signals)
		t.signals = nil
	}
	t.mu.Unlock()
	t.obeying.Wait()
}

// look settles the terminal, and reports whether this process is in the
// foreground.
func (t *Terminal) look() (foreground bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false, os.ErrClosed
	}
	return t.foreground() && !t.suspended, t.settle()
}

// foreground reports whether this process may read and set the terminal.
func (t *Terminal) foreground() bool {
	group, err := unix.IoctlGetInt(int(t.tty.Fd()), unix.TIOCGPGRP)
	// ENOTTY: it isn't this process's controlling terminal. Only that has a
	// background.
	return err != nil || group == unix.Getpgrp()
}

// settle makes the terminal raw if it is wanted raw and this process is in the
// foreground. t.mu is held.
func (t *Terminal) settle() error {
	switch {
	case !t.wanted || t.suspended || t.closed:
		return nil
	case !t.foreground():
		t.forget() // the foreground process sets its own mode
		return nil
	case t.raw:
		return nil
	}
	fd := int(t.tty.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read the terminal's mode: %w", err)
	}
	mode := makeRaw(*before)
	t.keeper.restore(before, &mode)
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &mode); err != nil {
		t.keeper.leave()
		return fmt.Errorf("switch the terminal to raw mode: %w", err)
	}
	t.before, t.raw = *before, true
	raw.Store(true)
	return nil
}

// makeRaw is cfmakeraw(3), with reads that return as soon as there is a byte.
func makeRaw(m unix.Termios) unix.Termios {
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Oflag &^= unix.OPOST
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Cflag &^= unix.CSIZE | unix.PARENB
	m.Cflag |= unix.CS8
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	return m
}

// restore gives the terminal its old mode, if it is raw and this process is in the
// foreground. t.mu is held.
func (t *Terminal) restore() {
	if t.raw && t.foreground() {
		// If this fails, the terminal is gone, and nobody needs to know.
		_ = unix.IoctlSetTermios(int(t.tty.Fd()), unix.TCSETS, &t.before)
	}
	t.forget()
}

// forget notes that the terminal isn't raw any more. t.mu is held.
func (t *Terminal) forget() {
	if t.raw {
		t.keeper.leave()
	}
	t.raw = false
	raw.Store(false)
}

// obey stops and continues with the rest of the process group.
func (t *Terminal) obey(came <-chan os.Signal) {
	for s := range came {
		if s == unix.SIGTSTP {
			t.suspend()
		}
		// Continued, after SIGTSTP or SIGSTOP. Nothing announces a SIGSTOP,
		// and a shell may have set the terminal meanwhile.
		t.resume()
	}
}

// suspend restores the terminal and stops this process, as SIGTSTP does. It
// returns when the process continues.
func (t *Terminal) suspend() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.suspended = true
	t.restore()
	t.mu.Unlock()

	// The signal goes to this thread, so that it takes effect before the call
	// returns. The kernel doesn't stop a process in an orphaned process group,
	// since nobody would continue it.
	runtime.LockOSThread()
	old, err := signals.Default(unix.SIGTSTP)
	if err == nil {
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTSTP)
		err = signals.Set(unix.SIGTSTP, old)
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.debug(err.Error())
	}

	t.mu.Lock()
	t.suspended = false
	t.mu.Unlock()
}

func (t *Terminal) resume() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if t.raw {
		mode, err := unix.IoctlGetTermios(int(t.tty.Fd()), unix.TCGETS)
		if want := makeRaw(t.before); err == nil && (mode.Lflag != want.Lflag || mode.Iflag != want.Iflag || mode.Oflag != want.Oflag) {
			t.forget()
		}
	}
	if err := t.settle(); err != nil {
		t.debug(err.Error())
	}
	_, _ = t.wake.Write([]byte{0}) // a Read that began in the background looks again
}

// readError is io.Reader's error for what read(2) returned.
func readError(n int, err error) error {
	if n == 0 && err == nil {
		return io.EOF
	}
	return os.NewSyscallError("read from the terminal", err)
}
