// Package window keeps guest RAM in secret memory and lets KVM have copies of
// only a bounded number of its pages at a time, in ordinary frames: the
// window. It needs no kernel module.
//
// KVM's slots are a mapping of a memfd that starts without a page. The guest's
// access to a page that isn't there stops its vCPU and becomes an event
// (userfaultfd); the pager copies the page from the secret store into a frame
// of the memfd and maps it for KVM. Before the frames run out it takes the
// pages that are of least use away from KVM, copies them back, wipes their
// frames and frees them. See docs/window.md.
//
// What is promised: at no instant are there more frames than the bound, those
// being filled and evicted included; a frame is wiped before it is freed, on
// every way out, for which a scrubber process stands by; no frame is swapped.
//
// Locks: evicting before mu. Everything in Window below mu is mu's; system
// calls are made without it, on pages that are busy. Only a holder of evicting
// unmaps pages from KVM, so that a page which it finds cool is unmapped.
package window

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"offmap/memory"
	"offmap/memory/attach/scrubber"
	"offmap/memory/attach/window/policy"
	"offmap/memory/uffd"
)

// MinSize is the smallest window in bytes that makes progress.
//
// An instruction completes only with all pages mapped that it needs at once:
// code, operands and stack, descriptor tables, each of which can straddle two
// pages, and the guest's page tables for each of them.
const MinSize = 256 << 10

// Config describes a window.
type Config struct {
	Size uint64 // the bound in bytes, whole pages, at least MinSize
	// Age, if not 0, is for how long a page stays in the window that the guest
	// doesn't use, nor those around it (rescueBlock), even if there is room.
	Age time.Duration
	// Threads answer faults. At least 1.
	Threads int
}

// Window is guest RAM behind a window. It implements memory.Guest.
type Window struct {
	ram    *memory.RAM
	cfg    Config
	view   *view
	faults *uffd.Range
	guard  *scrubber.Scrubber
	stop   int           // an eventfd: readable once the window closes
	done   chan struct{} // closed then

	threads []*thread
	work    sync.WaitGroup
	broken  sync.Once
	failed  chan struct{}
	close   sync.Once
	closed  error

	evicting sync.Mutex
	batch    batch

	mu      sync.Mutex
	settled sync.Cond // a page has stopped being busy
	frames  *policy.Frames
	walks   policy.Streams
	stored  bitmap // pages that the store has been written
	err     error  // why the window failed
	counts  Counts
}

// Counts is what a window has done, in pages but for Faults and Rescues.
type Counts struct {
	Faults  uint64 // faults answered
	Rescues uint64 // of those, by mapping a frame that was still there
	Filled  uint64
	Evicted uint64
}

// Open makes a window on ram, which is secret memory and stays the caller's.
// Errors wrap uffd.ErrDenied or uffd.ErrUnsupported where that is the matter. A
// failure leaves nothing behind.
func Open(ram *memory.RAM, cfg Config) (*Window, error) {
	size := ram.Layout().Size()
	if cfg.Size < MinSize || cfg.Size%memory.PageSize != 0 {
		return nil, fmt.Errorf("a window of %d bytes: it takes whole pages, and at least %d KiB", cfg.Size, MinSize>>10)
	}
	limit := min(cfg.Size, size) / memory.PageSize
	w := &Window{
		ram: ram, cfg: cfg, stop: -1, done: make(chan struct{}), failed: make(chan struct{}),
		frames: policy.NewFrames(int(size/memory.PageSize), int(limit)),
		stored: newBitmap(size / memory.PageSize),
	}
	w.walks.Most = uint32(max(1, min(policy.MaxFill, limit/16)))
	w.settled.L = &w.mu
	w.batch.pages, w.batch.wake = make([]uint32, 0, policy.MaxBatch), make([]uint32, 0, policy.MaxBatch)
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Window) open() (err error) {
	if w.view, err = openView(w.ram); err != nil {
		return err
	}
	if err := w.view.checkFrames(); err != nil {
		return err
	}
	if w.faults, err = uffd.Open(w.view.base(), w.view.size); err != nil {
		return err
	}
	if w.guard, err = scrubber.Start(w.view.fd); err != nil {
		return err
	}
	if w.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	for range max(1, w.cfg.Threads) {
		t := &thread{w: w}
		w.threads = append(w.threads, t)
		w.work.Go(t.serve)
	}
	if w.cfg.Age > 0 {
		w.work.Go(w.evictOld)
	}
	w.work.Go(w.watchScrubber)
	return nil
}

// watchScrubber ends the window's service when somebody kills the scrubber:
// nobody would wipe the frames if this process were killed too.
func (w *Window) watchScrubber() {
	select {
	case <-w.done:
	case <-w.guard.Done():
		w.fail(fmt.Errorf("its scrubber (process %d), which wipes it if this process is killed, is gone", w.guard.PID()))
	}
}

// Close ends the window: all frames are wiped and freed. KVM has let go of the
// memory before. What guest RAM held is gone; the store keeps what it has.
func (w *Window) Close() error {
	w.close.Do(func() {
		var errs []error
		if w.stop >= 0 {
			one := [8]byte{1}
			if _, err := unix.Write(w.stop, one[:]); err != nil {
				errs = append(errs, os.NewSyscallError("write to eventfd", err))
			}
			close(w.done)
			w.work.Wait()
		}
		if w.view != nil {
			errs = append(errs, w.view.scrub())
		}
		if w.guard != nil {
			errs = append(errs, w.guard.Close())
		}
		if w.faults != nil {
			errs = append(errs, w.faults.Close())
		}
		if w.view != nil {
			errs = append(errs, w.view.close())
		}
		if w.stop >= 0 {
			errs = append(errs, os.NewSyscallError("close of eventfd", unix.Close(w.stop)))
		}
		w.closed = errors.Join(errs...)
	})
	return w.closed
}

// fail ends the window's service. Faults that nobody answers any more are
// answered by taking the memory away: vCPUs that wait come back with EFAULT.
func (w *Window) fail(err error) {
	w.broken.Do(func() {
		w.mu.Lock()
		w.err = fmt.Errorf("window: %w", err)
		w.settled.Broadcast()
		w.mu.Unlock()
		close(w.failed)
		if err := errors.Join(w.view.revoke(), w.faults.Wake(0, w.view.size)); err != nil {
			panic(err) // vCPUs would wait for ever
		}
	})
}

// Failed is closed when the window can't go on; Err then says why. The guest's
// accesses end in EFAULT from then on.
func (w *Window) Failed() <-chan struct{} { return w.failed }

// Err is why the window failed, or nil.
func (w *Window) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Held returns how much guest RAM is in ordinary frames now, and the most that
// ever was, in bytes: pages on their way in and out are counted.
func (w *Window) Held() (now, peak uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return uint64(w.frames.Used()) * memory.PageSize, uint64(w.frames.Peak()) * memory.PageSize
}

// Populated returns how much guest RAM has memory behind it, in the store or
// in the window, in bytes.
func (w *Window) Populated() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n uint64
	for p := range uint32(w.view.size / memory.PageSize) {
		if w.stored.has(p) || w.frames.State(p) != policy.Absent {
			n++
		}
	}
	return n * memory.PageSize
}

// Counts returns what was done so far.
func (w *Window) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// Latency returns the quantiles q of the time from a fault's event to the
// wake-up of who took it.
func (w *Window) Latency(q ...float64) []time.Duration {
	var all latencies
	for _, t := range w.threads {
		t.mu.Lock()
		all.merge(&t.latencies)
		t.mu.Unlock()
	}
	var d []time.Duration
	for _, q := range q {
		d = append(d, all.quantile(q))
	}
	return d
}
