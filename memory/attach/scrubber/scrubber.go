// Package scrubber wipes a window's frames when the VMM is gone, however it
// went.
//
// The window is a shared memfd that holds copies of secret guest pages. Its
// frames are ordinary memory: if the VMM is killed, the kernel frees them with
// what is in them. The scrubber is a process that holds the file too, so that
// they aren't freed, waits until the VMM is gone, overwrites them with zeros,
// gives them back and ends. It is 600 bytes of machine code (scrubber.S)
// and has nothing of the VMM's but the file and one end of a socket.
//
// # How it knows
//
// The other end of the socket is the VMM's alone, closed on exec from its
// first moment, so that no child of the VMM's ever runs with it. When the
// VMM's table of open files is freed the scrubber reads the end of file.
//
// No page gets content after that. The table is freed by the last of the
// VMM's threads to go, and in the kernel's do_exit a thread leaves its memory
// (exit_mm) before its files (exit_files): by then no thread can write to a
// mapping of the window, none is in a system call that does, and no vCPU
// runs. What KVM itself writes for a vCPU it writes in that vCPU's thread, and
// not without its memory. This would not hold for helpers in the kernel that
// have the VMM's memory but not its files: vhost, or io_uring requests in
// flight; the VMM has neither.
//
// # What it can't do
//
//   - Nothing wipes when the scrubber is killed together with the VMM: SIGKILL
//     to both, cgroup.kill, or the end of their PID namespace, which is also
//     the end of a container. Start refuses where the VMM is itself process 1
//     of a namespace: then every death of it is that case, and not one page
//     of 64 MiB was wiped when it was tried.
//   - Copies that the kernel makes are not the file's pages: swapped-out ones
//     on disk, and old frames of pages that were migrated (compaction, NUMA
//     balancing).
//   - A core dump of the VMM is written before its files are closed.
//
// For frames, booting with init_on_free=1 covers all of it.
package scrubber

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"offmap/internal/process/freestanding"
)

// name is the process's in ps. "pkill offmap" must not find it, so that
// killing the VMM that way leaves it its work.
const name = "window-scrubber"

//go:generate sh ../../../internal/process/freestanding/build.sh scrubber.S

//go:embed scrubber.bin
var image []byte

// Either takes about a millisecond, on a host that isn't short of everything.
var (
	startTimeout = 10 * time.Second
	closeTimeout = 10 * time.Second
)

// Scrubber is a running scrubber. Its process ends when Close is called or
// this process ends, after a last look for pages to wipe.
type Scrubber struct {
	process *os.Process
	life    *os.File // the scrubber wipes when this is closed

	done  chan struct{}
	ended error // set before done is closed: nil for exit status 0

	once     sync.Once
	closeErr error
}

// Start starts a scrubber of the window, a memfd open for reading and writing
// that stays the caller's, and returns when it is on guard. A caller that
// can't start one has to do without the window.
func Start(window int) (*Scrubber, error) {
	g, err := start(window)
	if err != nil {
		return nil, fmt.Errorf("no scrubber for the window, so nobody would wipe it if this process were killed: %w", err)
	}
	return g, nil
}

func start(window int) (*Scrubber, error) {
	if os.Getpid() == 1 {
		return nil, errors.New("this is process 1 of its PID namespace, and the kernel kills the scrubber together with it: " +
			"run it as a child of an init (in a container: from a shell or service manager that outlives it)")
	}
	file, err := open(window)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	life, end, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer end.Close()

	// LIFE and WINDOW of scrubber.S
	process, err := freestanding.Start(name, image, []*os.File{end, file}, &syscall.SysProcAttr{Setsid: true})
	if err != nil {
		life.Close()
		return nil, err
	}
	g := &Scrubber{process: process, life: life, done: make(chan struct{})}
	// The goroutine also keeps life reachable: as garbage it would be closed.
	go g.wait()
	end.Close() // or a scrubber that dies here would not be seen
	if err := g.ready(); err != nil {
		life.Close()
		process.Kill()
		<-g.done
		return nil, err
	}
	return g, nil
}

// ready waits for the byte that the scrubber sends when it is set up.
func (g *Scrubber) ready() error {
	if err := g.life.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("deadline for the scrubber's first byte: %w", err)
	}
	switch _, err := g.life.Read(make([]byte, 1)); {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		<-g.done
		return fmt.Errorf("the scrubber ended before it was ready: %w", g.ended)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the scrubber (process %d) was not ready within %v", g.PID(), startTimeout)
	case err != nil:
		return fmt.Errorf("read of the scrubber's first byte: %w", err)
	}
	return nil
}

// wait reaps the process.
func (g *Scrubber) wait() {
	state, err := g.process.Wait()
	switch {
	case err != nil:
		g.ended = fmt.Errorf("wait: %w", err)
	case state.ExitCode() > 0:
		g.ended = fmt.Errorf("rt_sigprocmask, close_range, prctl or mmap failed in it: %w", syscall.Errno(state.ExitCode()))
	case !state.Success():
		g.ended = errors.New(state.String())
	}
	close(g.done)
}

// PID is the scrubber's process.
func (g *Scrubber) PID() int { return g.process.Pid }

// Done is closed when the scrubber's process has ended. Before Close that
// means that somebody has killed it and nobody will wipe the window: stop the
// guest, wipe, and Close, which tells how it ended.
func (g *Scrubber) Done() <-chan struct{} { return g.done }

// Close ends the scrubber and reaps it, up to 10 s. The caller has wiped the
// window and won't write to it any more: what is left in it is lost. The error
// says if the scrubber has ended badly, by then or before. One that is still
// at work after the time is left alone, as it may be wiping.
func (g *Scrubber) Close() error {
	g.once.Do(func() { g.closeErr = g.close(closeTimeout) })
	return g.closeErr
}

func (g *Scrubber) close(timeout time.Duration) error {
	err := g.life.Close()
	select {
	case <-g.done:
		if g.ended != nil {
			err = errors.Join(err, fmt.Errorf("the window's scrubber (process %d) ended badly: %w", g.PID(), g.ended))
		}
	case <-time.After(timeout):
		err = errors.Join(err, fmt.Errorf("the window's scrubber (process %d) is still there %v after it was told to end: it is stopped, or finds pages that it can't wipe",
			g.PID(), timeout))
	}
	return err
}

// socketpair makes the channel between the VMM (life) and the scrubber (end).
func socketpair() (life, end *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair for the scrubber: %w", err)
	}
	// The runtime's poller, and so a deadline, takes a descriptor that
	// doesn't block; the scrubber wants one that does.
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, fmt.Errorf("making the scrubber's socket non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "scrubber's life"), os.NewFile(uintptr(fds[1]), "scrubber's end"), nil
}
