package attach

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"offmap/memory"
	"offmap/memory/attach/window"
	"offmap/memory/uffd"
)

// DefaultWindow is the window of a guest with size bytes of RAM: a quarter of
// it, in whole pages.
func DefaultWindow(size uint64) uint64 {
	return max(size/4, window.MinSize) / memory.PageSize * memory.PageSize
}

// openWindow makes a.window.
func (a *Attachment) openWindow(opts Options) error {
	cfg := window.Config{
		Size: opts.Window, Age: opts.WindowAge,
		// The window's file has one lock, and a guest that runs wants CPUs
		// too: on two of them, a second thread made it slower.
		Threads: max(1, min(opts.CPUs, runtime.NumCPU()/2)),
	}
	if cfg.Size == 0 {
		cfg.Size = DefaultWindow(a.ram.Layout().Size())
	}
	w, err := window.Open(a.ram, cfg)
	if errors.Is(err, uffd.ErrDenied) {
		err = fmt.Errorf("%w: %s", err, uffd.FixDenied)
	}
	if err != nil {
		return &refusal{err.Error(), err}
	}
	a.window = w
	return nil
}

// Usage is guest RAM in bytes: how much has memory behind it, how much of that
// the host kernel can read through its direct map now, and the most that it
// ever could.
type Usage struct {
	Populated, Exposed, ExposedPeak uint64
}

// Usage returns the figures of this moment.
func (a *Attachment) Usage() (u Usage, err error) {
	if a.window != nil {
		u.Populated = a.window.Populated()
		u.Exposed, u.ExposedPeak = a.window.Held()
		return u, nil
	}
	if u.Populated, err = a.ram.Populated(); err != nil {
		return u, err
	}
	if a.ram.Backend().Exposed() {
		// Pages never leave ordinary memory before the end.
		u.Exposed, u.ExposedPeak = u.Populated, u.Populated
	}
	return u, nil
}

// Faults are what the pager of ViaWindow has answered: how many, and the time
// that half and 99 % of them stayed under, from the event to the wake-up.
type Faults struct {
	Count    uint64
	P50, P99 time.Duration
}

// Faults returns nil for an attach without a pager.
func (a *Attachment) Faults() *Faults {
	if a.window == nil {
		return nil
	}
	l := a.window.Latency(.5, .99)
	return &Faults{Count: a.window.Counts().Faults, P50: l[0], P99: l[1]}
}

// Failed is closed if the attach can't serve the guest any more; nil, which
// never is, where that can't happen.
func (a *Attachment) Failed() <-chan struct{} {
	if a.window == nil {
		return nil
	}
	return a.window.Failed()
}

// Err is why it failed, or nil.
func (a *Attachment) Err() error {
	if a.window == nil {
		return nil
	}
	return a.window.Err()
}
