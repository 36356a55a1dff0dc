package serial

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// queueSize is how far the guest may be ahead of the writer, in bytes.
	queueSize = 64 << 10
	// holdTime is how long a byte waits for the rest of its line.
	holdTime = 5 * time.Millisecond
	// stallTime is how long a byte that the guest sends in spite of a full
	// transmitter holds its vCPU up before it is lost.
	stallTime = time.Second
	// closeTime is how long close waits for a writer that is stuck.
	closeTime = time.Second
)

// transmitter carries bytes from the guest to a writer.
//
// Each byte costs the guest an exit already; it need not cost the host a
// system call as well. Bytes are handed on at the end of a line, when the
// driver says that it is done, and after holdTime at the latest.
//
// While the writer doesn't keep up and the queue is full, the transmitter
// isn't ready, and a driver with interrupts waits. Linux's console doesn't
// wait for long: then put waits in its place, and only when the writer makes
// no progress at all in stallTime are bytes lost, and reported, until it does.
type transmitter struct {
	w       io.Writer
	onError func(error)
	onRoom  func() // called when the queue was full and isn't any more

	wake  chan struct{} // the queue isn't empty
	hurry chan struct{} // don't wait for more
	room  chan struct{} // the queue was emptied
	done  chan struct{} // the goroutine is gone

	mu      sync.Mutex
	queue   []byte
	stalled bool // the last wait for room was in vain
	lost    int
	err     error // of the writer, for good
	closed  bool
}

func newTransmitter(w io.Writer, onError func(error), onRoom func()) *transmitter {
	t := &transmitter{
		w: w, onError: onError, onRoom: onRoom,
		wake:  make(chan struct{}, 1),
		hurry: make(chan struct{}, 1),
		room:  make(chan struct{}, 1),
		done:  make(chan struct{}),
		queue: make([]byte, 0, queueSize),
	}
	go t.run()
	return t
}

// signal leaves a token in c unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ready reports whether put has room.
func (t *transmitter) ready() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) < cap(t.queue)
}

// put queues b, waiting for room if it must.
func (t *transmitter) put(b byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == cap(t.queue) && !t.stalled {
		t.await()
	}
	if t.err != nil || t.closed || len(t.queue) == cap(t.queue) {
		t.lost++
		return
	}
	t.queue = append(t.queue, b)
	if len(t.queue) == 1 {
		signal(t.wake)
	}
	if b == '\n' || len(t.queue) == cap(t.queue) {
		signal(t.hurry)
	}
}

// await drops the lock until there is room or stallTime has passed.
func (t *transmitter) await() {
	deadline := time.NewTimer(stallTime)
	defer deadline.Stop()
	for len(t.queue) == cap(t.queue) && !t.closed {
		t.mu.Unlock()
		var late bool
		select {
		case <-t.room:
		case <-deadline.C:
			late = true
		}
		t.mu.Lock()
		if late && len(t.queue) == cap(t.queue) {
			t.stalled = true
			if t.lost == 0 {
				t.onError(fmt.Errorf("serial output: the writer made no progress in %v: what the guest sends is lost until it does", stallTime))
			}
			return
		}
	}
}

// flush hands on what is queued.
func (t *transmitter) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) > 0 {
		signal(t.hurry)
	}
}

// run writes the queue out until close.
func (t *transmitter) run() {
	defer close(t.done)
	spare := make([]byte, 0, queueSize)
	hold := time.NewTimer(holdTime)
	for range t.wake {
		hold.Reset(holdTime)
		select {
		case <-t.hurry:
		case <-hold.C:
		}

		t.mu.Lock()
		batch := t.queue
		t.queue, t.stalled = spare[:0], false
		spare = batch
		failed, closed := t.err != nil, t.closed
		t.mu.Unlock()
		signal(t.room)
		if len(batch) == queueSize {
			t.onRoom()
		}

		if len(batch) > 0 && !failed {
			if n, err := t.w.Write(batch); err != nil {
				t.fail(err, len(batch)-n)
			}
		}
		if closed {
			return
		}
	}
}

// fail ends output for good: the guest goes on, and what it sends is dropped.
func (t *transmitter) fail(err error, lost int) {
	t.mu.Lock()
	t.err = fmt.Errorf("serial output: %w", err)
	t.lost += lost
	t.mu.Unlock()
	t.onError(t.err)
}

// close writes what is left and ends the goroutine.
func (t *transmitter) close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	signal(t.hurry)
	signal(t.wake)
	var stuck error
	select {
	case <-t.done:
	case <-time.After(closeTime):
		stuck = errors.New("serial output: the writer is stuck; the end of the output is lost")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost > 0 && t.err == nil && stuck == nil {
		return fmt.Errorf("serial output: %d bytes were lost because the writer stalled", t.lost)
	}
	return errors.Join(t.err, stuck)
}
