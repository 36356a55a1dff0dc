package attach

import (
	"errors"
	"fmt"
	"runtime"

	"offmap/kvm"
	"offmap/memory"
	"offmap/memory/attach/window"
	"offmap/memory/uffd"
)

// DefaultWindow is the window of a guest with size bytes of RAM: a quarter of
// it, in whole pages.
func DefaultWindow(size uint64) uint64 {
	return max(size/4, window.MinSize) / memory.PageSize * memory.PageSize
}

// windowed is RAM whose slot is a window onto it.
type windowed struct {
	ram *memory.RAM
	*window.Window
}

func openWindow(ram *memory.RAM, opts Options) (attachment, error) {
	cfg := window.Config{
		Size: opts.Window, Age: opts.WindowAge,
		// The window's file has one lock, and the guest needs CPUs too: on
		// two CPUs, a second thread made it slower.
		Threads: max(1, min(opts.CPUs, runtime.NumCPU()/2)),
	}
	if cfg.Size == 0 {
		cfg.Size = DefaultWindow(ram.Layout().Size())
	}
	w, err := window.Open(ram, cfg)
	if errors.Is(err, uffd.ErrDenied) {
		err = fmt.Errorf("%w: %s", err, uffd.FixDenied)
	}
	if err != nil {
		return nil, &refusal{err.Error(), err}
	}
	return windowed{ram, w}, nil
}

func (w windowed) slots() []kvm.Slot   { return slotsOf(w.ram, w.Pointer()) }
func (w windowed) guest() memory.Guest { return w.Window }
func (w windowed) usage() (u Usage, err error) {
	u.Populated = w.Populated()
	u.Exposed, u.ExposedPeak = w.Held()
	return u, nil
}

func (w windowed) faults() *Faults {
	l := w.Latency(.5, .99)
	return &Faults{Count: w.Counts().Faults, P50: l[0], P99: l[1]}
}

func (w windowed) residency(pages []memory.PageState) (peak uint64, err error) {
	return w.Residency(pages)
}
