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

// MinSize is the smallest size of a window, in bytes.
//
// An instruction completes only while all pages are mapped that it needs: code,
// operands, stack and descriptor tables, each of which can straddle two pages,
// and the guest's page tables for all of them. In a smaller window a guest could
// fault forever.
const MinSize = 256 << 10

// Config is the configuration of a window.
type Config struct {
	// Size is the most memory in bytes that frames may use: whole pages, and
	// at least MinSize.
	Size uint64
	// Age, if not 0, is the time within which a page is evicted even though
	// there is room, if the guest uses neither it nor another page of its
	// aligned block of 64 KiB.
	Age time.Duration
	// Threads is the number of goroutines that answer faults. 0 means 1.
	Threads int
}

// Window is guest RAM behind a window. It implements memory.Guest. Its methods
// can be called from several goroutines.
type Window struct {
	ram    *memory.RAM
	cfg    Config
	file   *windowFile
	faults *uffd.Range
	wiper  *scrubber.Scrubber
	stop   int           // an eventfd, readable when the window closes
	done   chan struct{} // closed when the window closes

	threads   []*thread
	work      sync.WaitGroup
	failOnce  sync.Once
	failed    chan struct{}
	closeOnce sync.Once
	closed    error

	staging staging

	evicting sync.Mutex
	batch    batch

	mu      sync.Mutex
	notBusy sync.Cond // signals that a page has stopped being busy, or a failure
	frames  *policy.Frames
	streams policy.Streams
	stored  bitmap // the pages that were written to the store
	err     error  // why the window failed
	counts  Counts
}

// Counts counts what a window has done since it was opened.
type Counts struct {
	Faults      uint64 // faults that were answered
	MinorFaults uint64 // of those, on pages that had a frame
	Filled      uint64 // pages, readahead included
	Evicted     uint64 // pages
}

// Open makes a window for ram, which must be secret memory. The caller closes
// ram after the window. An error wraps uffd.ErrDenied or uffd.ErrUnsupported if
// userfaultfd is the reason.
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
	w.streams.Most = uint32(max(1, min(policy.MaxFill, limit/16)))
	w.notBusy.L = &w.mu
	w.batch.pages, w.batch.wake = make([]uint32, 0, policy.MaxBatch), make([]uint32, 0, policy.MaxBatch)
	if err := w.open(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Window) open() (err error) {
	if w.file, err = openWindowFile(w.ram); err != nil {
		return err
	}
	if err := w.file.checkFrames(); err != nil {
		return err
	}
	if w.faults, err = uffd.Open(w.file.base(), w.file.size); err != nil {
		return err
	}
	if w.wiper, err = scrubber.Start(w.file.fd); err != nil {
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
		w.work.Go(w.evictAged)
	}
	w.work.Go(w.watchScrubber)
	return nil
}

var errScrubber = errors.New("the scrubber, which would wipe the window if this process were killed, has ended")

// watchScrubber fails the window when the scrubber has been killed: nothing
// would wipe the frames if this process were killed too.
func (w *Window) watchScrubber() {
	select {
	case <-w.done:
	case <-w.wiper.Done():
		w.fail(fmt.Errorf("%w (process %d)", errScrubber, w.wiper.PID()))
	}
}

// Close stops the pager, and wipes and frees all frames. Pages that are in the
// window are not copied to the store first. The VM must have been closed before.
func (w *Window) Close() error {
	w.closeOnce.Do(func() {
		var errs []error
		if w.stop >= 0 {
			one := [8]byte{1}
			if _, err := unix.Write(w.stop, one[:]); err != nil {
				errs = append(errs, os.NewSyscallError("write to eventfd", err))
			}
			close(w.done)
			w.work.Wait()
		}
		if w.file != nil {
			errs = append(errs, w.file.scrub())
		}
		if w.wiper != nil {
			errs = append(errs, w.wiper.Close())
		}
		if w.faults != nil {
			errs = append(errs, w.faults.Close())
		}
		if w.file != nil {
			errs = append(errs, w.file.close())
		}
		errs = append(errs, w.staging.close())
		if w.stop >= 0 {
			errs = append(errs, os.NewSyscallError("close of eventfd", unix.Close(w.stop)))
		}
		w.closed = errors.Join(errs...)
	})
	return w.closed
}

// fail stops the window's service. It maps inaccessible memory over KVM's mapping
// and wakes the vCPUs that wait for a page: their KVM_RUN returns EFAULT.
func (w *Window) fail(err error) {
	w.failOnce.Do(func() {
		w.mu.Lock()
		w.err = fmt.Errorf("window: %w", err)
		w.notBusy.Broadcast()
		w.mu.Unlock()
		close(w.failed)
		if err := errors.Join(w.file.revoke(), w.faults.Wake(0, w.file.size)); err != nil {
			panic(err) // vCPUs would wait forever
		}
	})
}

// Failed returns a channel that is closed when the window has failed. Err then
// returns the reason, and KVM_RUN of every vCPU that uses guest RAM EFAULT.
func (w *Window) Failed() <-chan struct{} { return w.failed }

// Err returns why the window failed, or nil.
func (w *Window) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Held returns the size of the frames in bytes, now and at most so far. Frames
// that are being filled or evicted are included.
func (w *Window) Held() (now, peak uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return uint64(w.frames.Used()) * memory.PageSize, uint64(w.frames.Peak()) * memory.PageSize
}

// Populated returns how many bytes of guest RAM have memory, in the store or in
// the window.
func (w *Window) Populated() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var n uint64
	for p := range uint32(w.file.size / memory.PageSize) {
		if w.stored.has(p) || w.frames.State(p) != policy.Absent {
			n++
		}
	}
	return n * memory.PageSize
}

// Counts returns the counts so far.
func (w *Window) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// Latency returns the quantiles q of the time from reading a fault's event to
// waking its vCPU.
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
