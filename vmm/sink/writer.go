package sink

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// ChunkSize is the most that one call of the writer gets, in bytes, so
	// that a slow writer shows progress.
	ChunkSize = 4 << 10
	// How long write waits after EAGAIN: retryMin at first, doubled each time
	// up to retryMax.
	retryMin = time.Millisecond
	retryMax = 50 * time.Millisecond
)

// output writes to a writer, and counts the bytes that the writer took.
type output struct {
	w     io.Writer
	wrote atomic.Uint64
	quit  chan struct{} // closed when nobody waits for w any more
}

// write writes all of p, or returns why it can't. After EAGAIN and EINTR it
// waits and tries again. A file returns EAGAIN if another process that shares it
// (a shell's other job, the process that started this one) has made it
// non-blocking since Go opened it. write sleeps and doesn't poll(2), because the
// writer need not be a file.
func (o *output) write(p []byte) error {
	for pause := retryMin; len(p) > 0; {
		n, err := o.w.Write(p[:min(len(p), ChunkSize)])
		if n > 0 {
			o.wrote.Add(uint64(n))
			p = p[n:]
			pause = retryMin
		}
		switch {
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
			select {
			case <-time.After(pause):
				pause = min(2*pause, retryMax)
			case <-o.quit:
				return err
			}
		case err != nil:
			return err
		case n == 0:
			return io.ErrShortWrite
		}
	}
	return nil
}
