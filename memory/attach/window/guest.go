package window

import (
	"fmt"

	"offmap/memory"
	"offmap/memory/attach/window/policy"
)

// Layout returns the regions of guest RAM.
func (w *Window) Layout() memory.Layout { return w.ram.Layout() }

// ReadAt copies guest memory at gpa to p. It brings no page into the window.
func (w *Window) ReadAt(p []byte, gpa memory.GPA) (int, error) {
	return w.access("read", p, gpa, w.read)
}

// WriteAt copies p to guest memory at gpa. It brings no page into the window.
func (w *Window) WriteAt(p []byte, gpa memory.GPA) (int, error) {
	return w.access("write", p, gpa, w.write)
}

// access splits a device's access into pages.
func (w *Window) access(op string, p []byte, gpa memory.GPA, page func(p []byte, gpa memory.GPA, at int64) error) (n int, err error) {
	if err := w.Layout().Access(op, gpa, len(p)); err != nil {
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

// read reads within one page, at gpa and at offset at of the backend.
func (w *Window) read(p []byte, gpa memory.GPA, at int64) error {
	page := uint32(at / memory.PageSize)
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.await(page)
	switch {
	case err != nil:
		return err
	case s != policy.Absent && pair(p, at):
		return w.readPair(p, at)
	case s != policy.Absent:
		return w.file.read(p, at)
	case w.stored.has(page):
		_, err = w.ram.ReadAt(p, gpa)
		return err
	}
	clear(p) // a read doesn't make the store allocate a page
	return nil
}

// write writes within one page, at gpa and at offset at of the backend.
func (w *Window) write(p []byte, gpa memory.GPA, at int64) error {
	page := uint32(at / memory.PageSize)
	if pair(p, at) {
		if done, err := w.writePair(p, page, at); done || err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.await(page)
	switch {
	case err != nil:
		return err
	case s != policy.Absent:
		return w.file.write(p, at)
	}
	w.stored.add(page)
	_, err = w.ram.WriteAt(p, gpa)
	return err
}

// await waits until a page isn't busy and returns its state. The caller holds mu.
func (w *Window) await(page uint32) (policy.State, error) {
	for {
		if w.err != nil {
			return policy.Absent, w.err
		}
		if s := w.frames.State(page); s != policy.Busy {
			return s, nil
		}
		w.notBusy.Wait()
	}
}
