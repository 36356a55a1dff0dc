package window

import (
	"errors"
	"sync"

	"offmap/memory"
)

// stagingSize is the size of a staging buffer, in bytes: large enough that a system
// call costs little beside its copy, small enough to stay in a CPU's cache.
const stagingSize = 128 << 10

// staging are the buffers in secret memory through which files' bytes pass. A page
// of the window may be in its frame or in the store, and moves at any time. So a
// system call, which may wait for a disk, never has guest RAM itself to work on: no
// page is kept busy meanwhile, and no lock is held. There are as many buffers as
// there ever were calls at the same time, and they are freed when the window closes.
type staging struct {
	mu   sync.Mutex
	free []*secretBuffer
	all  []*secretBuffer
}

// get returns a buffer that nobody else uses, with all of its pages allocated.
func (s *staging) get() (*secretBuffer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b, nil
	}
	b, err := newSecretBuffer(stagingSize)
	if err != nil {
		return nil, err
	}
	s.all = append(s.all, b)
	return b, nil
}

func (s *staging) put(b *secretBuffer) {
	s.mu.Lock()
	s.free = append(s.free, b)
	s.mu.Unlock()
}

func (s *staging) close() error {
	var errs []error
	for _, b := range s.all {
		errs = append(errs, b.close())
	}
	s.free, s.all = nil, nil
	return errors.Join(errs...)
}

// Preadv reads from a file into guest memory: see memory.Guest. It brings no page
// into the window.
func (w *Window) Preadv(fd int, buf memory.Ranges, off int64, flags int) (int, error) {
	return w.vector("preadv", buf, off, func(b *secretBuffer, part memory.Ranges, n int, off int64) (int, error) {
		got, err := b.ram.Preadv(fd, memory.Ranges{{Size: uint32(n)}}, off, flags)
		if no := part.CopyIn(w, b.mem[:got]); no != nil {
			return 0, no
		}
		return got, err
	})
}

// Pwritev writes guest memory to a file: see memory.Guest. It brings no page into
// the window.
func (w *Window) Pwritev(fd int, buf memory.Ranges, off int64, flags int) (int, error) {
	return w.vector("pwritev", buf, off, func(b *secretBuffer, part memory.Ranges, n int, off int64) (int, error) {
		if err := part.CopyOut(w, b.mem[:n]); err != nil {
			return 0, err
		}
		return b.ram.Pwritev(fd, memory.Ranges{{Size: uint32(n)}}, off, flags)
	})
}

// vector moves bytes between a file and guest memory in parts that fit a staging
// buffer. move does so for the first n bytes of a part.
func (w *Window) vector(op string, buf memory.Ranges, off int64, move func(b *secretBuffer, part memory.Ranges, n int, off int64) (int, error)) (n int, err error) {
	if err := buf.Check(op, w.Layout()); err != nil {
		return 0, err
	}
	size := buf.Size()
	if size == 0 {
		return 0, nil
	}
	b, err := w.staging.get()
	if err != nil {
		return 0, err
	}
	defer w.staging.put(b)
	for uint64(n) < size {
		want := int(min(size-uint64(n), stagingSize))
		at := off
		if off >= 0 {
			at += int64(n)
		}
		k, err := move(b, buf, want, at)
		n += k
		// Without an offset, a second call could wait for what the first has taken.
		if err != nil || k < want || off < 0 {
			return n, err
		}
		_, buf = buf.Cut(uint64(k))
	}
	return n, nil
}
