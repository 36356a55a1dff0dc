package serial

import (
	"fmt"
	"os"
	"time"
)

const (
	// inputSize is how many bytes of input wait for the guest before Input
	// blocks.
	inputSize = 4096
	// burstTime is for how long the FIFO is refilled while the guest
	// empties it.
	burstTime = time.Millisecond
	// maxRest bounds the time for which it then stays empty: a guest that
	// took long was perhaps not busy, but stopped, or reads a key now and
	// then.
	maxRest = 100 * time.Millisecond
	// pollCount is how often a guest asks in vain before it polls.
	pollCount = 8
)

// receiver is the input's side of a UART, under the UART's lock. Input doesn't
// reach the guest as it comes, but by two rules.
//
// The first: only a guest that listens sees it, and nothing that a guest does
// drops it. Linux's driver clears the FIFO and reads it empty several times on
// its way to a first reader, and all that was typed or piped in until then
// would be lost. With the receive interrupt enabled a guest listens. Without,
// it may poll (boot loaders, memtest86+, kgdb), which isn't easily told from a
// driver that reads the line status for the sake of its transmitter. But such
// a driver sends as soon as it reads that it can: a guest that reads the line
// status again instead, pollCount times without setting up the port or reading
// the data register blindly in between, waits for input. From Linux's 8250
// driver two such reads in a row were the most found, where it starts up
// (serial8250_do_startup).
//
// The second: input has a pace. Linux's interrupt handler leaves when the FIFO
// is empty, and with a FIFO that never is, the guest does nothing else until
// its watchdogs bark. So the FIFO is refilled while the guest empties it for
// burstTime, and then stays empty for as long as that took: whatever the speed
// of the machine, half of the time is the guest's own. The first bytes after
// a pause don't wait.
type receiver struct {
	queue ring
	fifo  int           // how many of the queue's bytes are in the FIFO
	space chan struct{} // the queue has room

	burst time.Time   // since when the guest empties the FIFO; zero if it doesn't
	rest  time.Time   // when the FIFO may be filled again
	timer *time.Timer // for rest
	rts   bool        // Request To Send was high
	held  bool        // and is low

	idle  bool // the guest was told that it could send, and didn't
	asked int  // how often it read the line status instead

	ended  <-chan struct{}
	closed chan struct{}
}

// newReceiver returns a receiver that calls due when rest is over.
func newReceiver(ended <-chan struct{}, due func()) receiver {
	timer := time.AfterFunc(maxRest, due)
	timer.Stop()
	return receiver{
		queue:  ring{buf: make([]byte, inputSize)},
		space:  make(chan struct{}, 1),
		timer:  timer,
		ended:  ended,
		closed: make(chan struct{}),
	}
}

func (r *receiver) close() {
	close(r.closed)
	r.timer.Stop()
}

// over reports whether there is no guest any more that could read.
func (r *receiver) over() bool { return isClosed(r.closed) || isClosed(r.ended) }

// fill puts into the FIFO what waits, unless the guest is about to empty it,
// has a rest, or wants no more.
func (r *receiver) fill() {
	n := min(r.queue.len(), fifoSize)
	if n == r.fifo || r.held || r.fifo > 0 && !r.burst.IsZero() {
		return
	}
	if d := time.Until(r.rest); d > 0 {
		r.timer.Reset(d)
		return
	}
	r.fifo = n
}

// pop takes a byte out of the FIFO, where there must be one.
func (r *receiver) pop() byte {
	if r.burst.IsZero() {
		r.burst = time.Now()
	}
	b := r.queue.pop()
	r.fifo--
	signal(r.space)
	if r.fifo > 0 {
		return b
	}
	now := time.Now()
	if took := now.Sub(r.burst); took >= burstTime || r.queue.len() == 0 {
		r.rest = now.Add(min(took, maxRest))
		r.burst = time.Time{}
	}
	r.fill()
	return b
}

// setRTS is flow control: a guest that lowers its Request To Send after it was
// high takes no more than what is in the FIFO. Linux does so where CRTSCTS is
// set (stty crtscts, console=ttyS0,115200n8r) and its reader falls behind; else
// it drops what its own buffers don't hold.
func (r *receiver) setRTS(high bool) {
	r.rts = r.rts || high
	r.held = r.rts && !high
	r.fill()
}

// polls takes note that the guest read the line status.
func (r *receiver) polls(empty bool) {
	if r.idle && !r.polled() {
		r.asked++
	}
	r.idle = empty
}

func (r *receiver) polled() bool { return r.asked >= pollCount }

// notPolled takes note that the guest did what one that polls doesn't.
func (r *receiver) notPolled() { r.idle, r.asked = false, 0 }

// Input queues p for the guest. It blocks while the queue is full, and fails
// with os.ErrClosed once the guest has ended or the UART is closed.
func (u *UART) Input(p []byte) (n int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for n < len(p) {
		if u.rx.over() {
			return n, fmt.Errorf("serial input: %w", os.ErrClosed)
		}
		if u.rx.queue.full() {
			u.mu.Unlock()
			select {
			case <-u.rx.space:
			case <-u.rx.ended:
			case <-u.rx.closed:
			}
			u.mu.Lock()
			continue
		}
		for n < len(p) && !u.rx.queue.full() {
			u.rx.queue.push(p[n])
			n++
		}
		u.rx.fill()
		u.update()
	}
	if !u.rx.queue.full() {
		signal(u.rx.space) // for the next Input that waits
	}
	return n, nil
}
