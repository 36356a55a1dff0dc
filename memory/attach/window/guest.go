package window

import (
	"fmt"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
)

// Layout is the list of RAM regions.
func (w *Window) Layout() memory.Layout { return w.ram.Layout() }

// ReadAt copies guest memory at address off into p. It makes nothing resident.
func (w *Window) ReadAt(p []byte, off int64) (int, error) {
	return w.access("read", p, off, w.read)
}

// WriteAt copies p to guest memory at address off. It makes nothing resident.
func (w *Window) WriteAt(p []byte, off int64) (int, error) {
	return w.access("write", p, off, w.write)
}

// access splits a device's access into pages.
func (w *Window) access(op string, p []byte, off int64, page func(p []byte, gpa memory.GPA, at int64) error) (n int, err error) {
	gpa, err := w.Layout().Access(op, off, len(p))
	if err != nil {
		return 0, err
	}
	for n < len(p) {
		cur := gpa + memory.GPA(n)
		at, _, _ := w.Layout().Find(cur)
		k := min(len(p)-n, int(memory.PageSize-at%memory.PageSize))
		if err := page(p[n:n+k], cur, int64(at)); err != nil {
			return n, fmt.Errorf("%s of %d bytes at guest address %s: %w", op, len(p), gpa, err)
		}
		n += k
	}
	return n, nil
}

// read copies from within one page, at gpa and backend offset at.
func (w *Window) read(p []byte, gpa memory.GPA, at int64) error {
	page := uint32(at / memory.PageSize)
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.await(page)
	switch {
	case err != nil:
		return err
	case s != policy.Absent:
		return w.view.read(p, at)
	case w.stored.has(page):
		_, err = w.ram.ReadAt(p, int64(gpa))
		return err
	}
	clear(p) // the store hasn't been touched there, and isn't for a read
	return nil
}

// write copies to within one page, at gpa and backend offset at.
func (w *Window) write(p []byte, gpa memory.GPA, at int64) error {
	page := uint32(at / memory.PageSize)
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.await(page)
	switch {
	case err != nil:
		return err
	case s != policy.Absent:
		return w.view.write(p, at)
	}
	w.stored.add(page)
	_, err = w.ram.WriteAt(p, int64(gpa))
	return err
}

// await returns the state of a page once it isn't busy. mu is held.
func (w *Window) await(page uint32) (policy.State, error) {
	for {
		if w.err != nil {
			return policy.Absent, w.err
		}
		if s := w.frames.State(page); s != policy.Busy {
			return s, nil
		}
		w.settled.Wait()
	}
}
