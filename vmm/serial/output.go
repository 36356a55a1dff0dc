package serial

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// chunkSize is how much one call of the writer gets, so that progress
	// shows.
	chunkSize = 4 << 10
	// How long a writer that asked for patience is left alone, at first and
	// in the end.
	retryMin = time.Millisecond
	retryMax = 50 * time.Millisecond
)

// output writes to a writer, and counts the bytes that it took.
type output struct {
	w     io.Writer
	wrote atomic.Uint64
	quit  chan struct{} // closed when nobody waits for w any more
}

// write writes all of p, or returns why it can't. It waits errors out that
// pass: a file says EAGAIN when somebody who shares it (a shell's other jobs,
// the process that started this one) made it non-blocking, which Go notices
// only of files that were so from the start. The writer need not be a file,
// so there is nothing to poll.
func (o *output) write(p []byte) error {
	for pause := retryMin; len(p) > 0; {
		n, err := o.w.Write(p[:min(len(p), chunkSize)])
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
