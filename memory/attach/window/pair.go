package window

import (
	"offmap/memory/attach/window/policy"
)

// The kernel may copy two bytes one at a time (its copy_user_generic). For a ring's
// index, of which memory.Guest promises that the guest sees the old value or the new
// one, that has to be one store, or to happen while the guest can't look.

// pair reports whether an access is of two bytes at an even address.
func pair(p []byte, at int64) bool { return len(p) == 2 && at%2 == 0 }

// readPair reads a pair from a frame until it reads the same twice. An index that
// advances by less than 256 meanwhile can't be the same twice and be of two values.
// The caller holds mu, so it doesn't read for long: who changes it all the time gets
// what it deserves.
func (w *Window) readPair(p []byte, at int64) error {
	var last [2]byte
	err := w.file.read(p, at)
	for i := 0; i < 8 && err == nil && (i == 0 || [2]byte(p) != last); i++ {
		last = [2]byte(p)
		err = w.file.read(p, at)
	}
	return err
}

// writePair writes a pair to a page that has a frame: as one byte if only one
// differs, which for an index is nearly always so, or else with the page unmapped. It
// reports whether it has written.
func (w *Window) writePair(p []byte, page uint32, at int64) (done bool, err error) {
	w.mu.Lock()
	done, err = w.writeByte(p, page, at)
	w.mu.Unlock()
	if done || err != nil {
		return done, err
	}

	w.evicting.Lock() // which allows to unmap pages
	defer w.evicting.Unlock()
	w.mu.Lock()
	s, err := w.await(page)
	if err == nil && s != policy.Absent {
		w.frames.Isolate(page)
	}
	w.mu.Unlock()
	if err != nil || s == policy.Absent {
		return false, err
	}
	if err := w.writeUnmapped(p, page, at); err != nil {
		w.fail(err) // the page would stay busy
		return false, err
	}
	w.mapped(page, page+1)
	return true, nil
}

// writeUnmapped writes to the frame of a busy page while it is unmapped, and maps it.
// A guest that faults on it meanwhile waits. The caller holds evicting.
func (w *Window) writeUnmapped(p []byte, page uint32, at int64) error {
	if err := w.file.unmap(page, page+1); err != nil {
		return err
	}
	if err := w.file.write(p, at); err != nil {
		return err
	}
	return w.faults.Continue(uint64(offset(page)), uint64(offset(1)))
}

// writeByte writes the byte of a pair in which it differs from what the page's frame
// has, if there is only one. The caller holds mu.
func (w *Window) writeByte(p []byte, page uint32, at int64) (done bool, err error) {
	s, err := w.await(page)
	if err != nil || s == policy.Absent {
		return false, err
	}
	var was [2]byte
	if err := w.file.read(was[:], at); err != nil {
		return false, err
	}
	switch {
	case was[1] == p[1]:
		return true, w.file.write(p[:1], at)
	case was[0] == p[0]:
		return true, w.file.write(p[1:], at+1)
	}
	return false, nil
}
