// Package inject makes system calls in another process: with its memory, its
// descriptors and its rights. The caller must have the right to trace it, ptrace(2).
//
// # How
//
// Run seizes a thread of the process that waits in a system call, stops it, and has
// it map a page and clone(2) a new thread, which is ours. Then it restores the
// thread, which restarts its call. No thread of the process is stopped for longer
// than these two calls. All further calls are made in the new thread: a call that
// hangs, say on a userfault that a thread of the process has to answer, hangs only
// the caller.
//
// The new thread blocks every signal, since the process's runtime doesn't know it.
// Its code is one system call and then exit(2): if its tracer dies, it ends by
// itself.
//
// # What stays
//
// Nothing, if Run returns nil: the page is unmapped, the thread is gone, and its
// descriptors are closed. If the caller is killed meanwhile, the page (8 KiB) and
// the descriptors stay in the process until it ends.
package inject

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// ErrRefused says that the process may not be traced by this one.
var ErrRefused = errors.New("tracing refused")

// ErrHangs says that a call was interrupted because it took too long.
var ErrHangs = errors.New("it takes too long")

// Calls and stops take microseconds, and longer on an emulated processor that is
// busy. A call that takes this long hangs.
var (
	callTimeout = 20 * time.Second // for a call, or for a thread to stop
	graceTime   = 10 * time.Second // for a call to end that was interrupted
)

// Thread is a thread of ours in another process. Its methods are for the
// function that Run or Fork has given it to, and for that goroutine only.
type Thread struct {
	tracee
	pid     int             // of its process
	ctx     context.Context // ends the calls
	page    uint64          // our mapping: the code, and after it scratch memory
	foreign uint64          // a syscall instruction of the process's own
	regs    unix.PtraceRegs // what calls start from
	lost    error           // why there can be no more calls
	fds     []int           // what to close in the process at the end

	connected       bool // there is
	channel, remote int  // a pair of sockets, our end and the process's
}

// The mapping is one page of code and one of scratch memory.
const (
	pageSize    = 4096
	mappingSize = 2 * pageSize
	// ScratchSize is the length of the scratch memory in bytes.
	ScratchSize = pageSize
)

// code is the thread's program: a system call, and exit(0) should nobody stop
// it after that.
var code = []byte{
	0x0f, 0x05, // syscall
	0xb8, unix.SYS_EXIT, 0, 0, 0, // mov $SYS_exit, %eax
	0x31, 0xff, // xor %edi, %edi
	0x0f, 0x05, // syscall
}

// Run calls f with a thread in process pid, and takes the thread away again.
// Calls fail once ctx is done. f runs in a goroutine of its own that is locked
// to its operating system thread, since that is the tracer.
//
// Errors wrap ErrRefused if this process may not trace the other. If a borrowed
// thread can't be given back in time, Run returns ErrHangs without a call of f.
// The tracer then stays to give the thread back later: if the tracer ended, the
// thread would go on with registers that aren't its own.
func Run(ctx context.Context, pid int, f func(*Thread) error) error {
	late := time.NewTimer(enterTimeout + callTimeout)
	defer late.Stop()
	return runUntil(late.C, pid, func() (*Thread, error) { return enter(ctx, pid) }, f)
}

// runUntil is Run, which stops waiting for enter when late fires.
func runUntil(late <-chan time.Time, pid int, enter func() (*Thread, error), f func(*Thread) error) error {
	entered, done := make(chan func(*Thread) error), make(chan error, 1)
	aside(func() {
		t, err := enter()
		if err != nil {
			done <- fmt.Errorf("inject into process %d: %w", pid, err)
			return
		}
		if f := <-entered; f != nil {
			err = f(t)
		}
		done <- errors.Join(err, t.leave())
	})
	select {
	case err := <-done:
		return err
	case entered <- f:
		return <-done
	case <-late:
		err := fmt.Errorf("inject into process %d: no thread of ours there: %w: %s", pid, ErrHangs, Traced(pid))
		close(entered)
		return err
	}
}

// OwnThread calls f on a thread of its own, as a tracer needs, and returns when f
// does. The thread then ends, and the kernel detaches what it still traces.
func OwnThread(f func()) {
	done := make(chan struct{})
	aside(func() {
		defer close(done)
		f()
	})
	<-done
}

// Stop stops thread tid, which the calling thread has seized, for its memory to be
// read by ptrace(2). Signals that come first are delivered: a Go program's runtime
// counts on those that it sends itself.
func Stop(ctx context.Context, tid int) error {
	t := tracee(tid)
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, ErrHangs)
	defer cancel()
	return errors.Join(t.interrupt(), t.stopped(ctx))
}

// aside calls f in a goroutine of its own, locked to a thread that ends with it.
// The process's first thread is no such thread: Go parks it for good
// (runtime.mexit), and it would hold what it traces for ever, dead or alive.
func aside(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// While this goroutine has the first thread, the next one gets another.
		begun := make(chan struct{})
		aside(func() {
			close(begun)
			f()
		})
		<-begun
		runtime.UnlockOSThread()
	}()
}

// Call makes a system call in the process and returns its result, or an error
// that names it by number and wraps its errno or ErrHangs.
func (t *Thread) Call(number int, args ...uint64) (uint64, error) {
	return t.callIn(t.ctx, t.page, number, args...)
}

// callIn makes a call with the syscall instruction at address at.
func (t *Thread) callIn(ctx context.Context, at uint64, number int, args ...uint64) (uint64, error) {
	r, _, err := t.make(ctx, at, number, args...)
	return r, err
}

// make is callIn for calls that make a thread or process.
func (t *Thread) make(ctx context.Context, at uint64, number int, args ...uint64) (uint64, tracee, error) {
	if t.lost != nil {
		return 0, 0, t.lost
	}
	limit, cancel := context.WithTimeoutCause(ctx, callTimeout, ErrHangs)
	defer cancel()
	r, child, err := t.call(limit, &t.regs, at, number, args...)
	if err != nil {
		err = fmt.Errorf("system call %d in process %d: %w", number, t.pid, err)
	}
	if errors.Is(err, errLost) {
		t.lost = err
	}
	return r, child, err
}

// leave undoes all that was done in the process.
func (t *Thread) leave() error {
	if t.connected {
		unix.Close(t.channel)
	}
	if errors.Is(t.lost, errEnded) {
		return nil
	}
	if t.lost != nil {
		return fmt.Errorf("a thread of ours stays in process %d until its call ends: %w", t.pid, t.lost)
	}
	ctx := context.WithoutCancel(t.ctx)
	var errs []error
	for _, fd := range t.fds {
		_, err := t.callIn(ctx, t.page, unix.SYS_CLOSE, uint64(fd))
		errs = append(errs, err)
	}
	// Its own code is in what it unmaps.
	_, err := t.callIn(ctx, t.foreign, unix.SYS_MUNMAP, t.page, mappingSize)
	errs = append(errs, err)
	if _, err := t.callIn(ctx, t.foreign, unix.SYS_EXIT, 0); !errors.Is(err, errEnded) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
