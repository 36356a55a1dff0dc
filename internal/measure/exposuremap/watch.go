package exposuremap

import (
	"errors"
	"sync"
	"time"

	"offmap/memory"
	"offmap/vmm"
)

// maxShare bounds the time that looks take: at most one part in maxShare of all
// time. A guest so large that a look takes long is looked at less often.
const maxShare = 16

// Guest is a guest to watch, such as a vmm.Machine.
type Guest interface {
	Look(pages []memory.PageState) (vmm.Look, error)
	Pages() int
}

// Viewer takes the looks at a guest. It must not keep pages.
type Viewer interface {
	See(l vmm.Look, pages []memory.PageState)
}

// Watch looks at a guest now, at every interval and for the last time when stop is
// called, and shows each look to the viewers. The guest must not be closed before
// stop returns. An error of a look ends the watch, and stop returns it.
func Watch(g Guest, interval time.Duration, viewers ...Viewer) (stop func() error) {
	w := &watcher{guest: g, viewers: viewers, pages: make([]memory.PageState, g.Pages())}
	done, ended := make(chan struct{}), make(chan error, 1)
	w.look()
	go func() { ended <- w.run(interval, done) }()
	return sync.OnceValue(func() error {
		close(done)
		return <-ended
	})
}

type watcher struct {
	guest   Guest
	viewers []Viewer
	pages   []memory.PageState
	err     error
}

// run looks every interval until done is closed, and then once more.
func (w *watcher) run(interval time.Duration, done <-chan struct{}) error {
	t := time.NewTimer(interval)
	defer t.Stop()
	for {
		select {
		case <-done:
			w.look()
			return w.err
		case <-t.C:
			start := time.Now()
			w.look()
			took := time.Since(start)
			t.Reset(max(interval-took, took*(maxShare-1)))
		}
	}
}

func (w *watcher) look() {
	if w.err != nil {
		return
	}
	l, err := w.guest.Look(w.pages)
	if err != nil {
		w.err = errors.Join(errors.New("exposure: the guest can't be looked at any more"), err)
		return
	}
	for _, v := range w.viewers {
		v.See(l, w.pages)
	}
}
