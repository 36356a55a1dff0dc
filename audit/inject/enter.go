package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// enterTimeout is how long to look for a thread that can be borrowed. If more
// threads want to run than there are processors, it takes long until one waits.
const enterTimeout = 20 * time.Second

// errBusy says that a thread can't be borrowed at the moment.
var errBusy = errors.New("no thread of it is parked in a system call")

// enter makes our thread in the process.
func enter(ctx context.Context, pid int) (*Thread, error) {
	limit, cancel := context.WithTimeoutCause(ctx, enterTimeout, errBusy)
	defer cancel()
	for {
		threads, err := parked(pid)
		if err != nil {
			return nil, err
		}
		for _, tid := range threads {
			t, err := clone(limit, tid)
			if err == nil {
				t.pid, t.ctx = pid, ctx
				return t, nil
			}
			if !errors.Is(err, errBusy) && !errors.Is(err, errEnded) {
				return nil, err
			}
		}
		select {
		case <-limit.Done():
			return nil, context.Cause(limit)
		case <-time.After(time.Millisecond):
		}
	}
}

// parked lists the process's threads that wait in a system call, the best to
// borrow first.
func parked(pid int) ([]tracee, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no such process: %w", errors.Join(err, unix.ESRCH))
	}
	type candidate struct {
		tracee
		rank int
	}
	var found []candidate
	for _, f := range files {
		line, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if err != nil {
			return nil, err
		}
		tid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			return nil, err
		}
		if r, ok := rank(string(line)); ok {
			found = append(found, candidate{tracee(tid), r})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.rank - b.rank })
	var threads []tracee
	for _, c := range found {
		threads = append(threads, c.tracee)
	}
	return threads, nil
}

// rank says how good a thread is to borrow, the lower the better, from what
// its "syscall" file in /proc says: the call's number, its arguments, and
// more. A futex without a timeout just waits again. A read may be a pager's
// wait for userfaults, and an ioctl KVM_RUN, which EINTR makes an exit.
func rank(syscall string) (int, bool) {
	words := strings.Fields(syscall)
	if len(words) < 7 {
		return 0, false // it runs, or is stopped elsewhere than in a call
	}
	switch n, err := strconv.Atoi(words[0]); {
	case err != nil || n < 0:
		return 0, false
	case n == unix.SYS_FUTEX && words[4] == "0x0":
		return 0, true
	case n == unix.SYS_READ || n == unix.SYS_IOCTL:
		return 2, true
	}
	return 1, true
}

// clone borrows thread b to make ours, and gives it back. Errors wrap errBusy
// or errEnded if another thread may do.
func clone(ctx context.Context, b tracee) (_ *Thread, err error) {
	if err := unix.PtraceSeize(int(b)); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil, errEnded
		}
		if errors.Is(err, unix.EPERM) {
			return nil, fmt.Errorf("%w (is another tracer there? kernel.yama.ptrace_scope?): PTRACE_SEIZE of thread %d: %w", ErrRefused, b, err)
		}
		return nil, fmt.Errorf("PTRACE_SEIZE of thread %d: %w", b, err)
	}
	// One that waits for what no signal interrupts may not stop; it isn't hurt
	// when its tracer ends.
	if err := Stop(ctx, int(b)); err != nil {
		return nil, err
	}
	// From here on this runs to its end, however long it takes: until then the
	// thread has wrong registers. Run doesn't wait for that.
	ctx = context.WithoutCancel(ctx)
	var saved unix.PtraceRegs
	err = unix.PtraceGetRegs(int(b), &saved)
	mask, maskErr := b.blocked()
	if err = errors.Join(err, maskErr); err != nil {
		return nil, errors.Join(err, unix.PtraceDetach(int(b)))
	}
	// The instruction before this one is the one that has brought it here.
	at := saved.Rip - 2
	text := make([]byte, 2)
	_, err = unix.PtracePeekText(int(b), uintptr(at), text)
	if err != nil || !bytes.Equal(text, code[:2]) {
		return nil, errors.Join(errBusy, unix.PtraceDetach(int(b)))
	}
	if err := errors.Join(b.trace(), b.block(everything)); err != nil {
		return nil, errors.Join(err, unix.PtraceDetach(int(b)))
	}
	defer func() { err = errors.Join(err, b.giveBack(ctx, &saved, mask)) }()

	const prot = unix.PROT_READ | unix.PROT_WRITE | unix.PROT_EXEC
	page, _, err := b.call(ctx, &saved, at, unix.SYS_MMAP, 0, mappingSize, prot, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	_, err = unix.PtracePokeText(int(b), uintptr(page), code)
	if err == nil {
		// It has the other's stack pointer too, but no use for it.
		const flags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM
		var child tracee
		if _, child, err = b.call(ctx, &saved, at, unix.SYS_CLONE, flags, 0, 0, 0, 0); err == nil {
			return adopt(ctx, child, page, at)
		}
	}
	_, _, unmapErr := b.call(ctx, &saved, at, unix.SYS_MUNMAP, page, mappingSize)
	return nil, errors.Join(fmt.Errorf("clone: %w", err), unmapErr)
}

// giveBack lets the borrowed thread go on where it was.
func (t tracee) giveBack(ctx context.Context, saved *unix.PtraceRegs, mask signals) error {
	// A call is restarted by the kernel's code for signals, and that runs only
	// after a stop like the first one.
	if err := errors.Join(t.interrupt(), t.resume(0), t.stopped(ctx)); err != nil {
		return fmt.Errorf("the borrowed thread: %w", err)
	}
	return errors.Join(unix.PtraceSetRegs(int(t), saved), t.block(mask), unix.PtraceDetach(int(t)))
}

// adopt takes over a thread that has just been cloned, with the code at page.
func adopt(ctx context.Context, child tracee, page, foreign uint64) (*Thread, error) {
	t := &Thread{tracee: child, ctx: ctx, page: page, foreign: foreign}
	if err := child.stopped(ctx); err != nil {
		return nil, err
	}
	if err := unix.PtraceGetRegs(int(child), &t.regs); err != nil {
		return nil, child.lost("PTRACE_GETREGS", err)
	}
	return t, nil
}
