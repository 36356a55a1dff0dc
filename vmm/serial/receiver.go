package serial

import (
	"fmt"
	"math"
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
	// maxRest bounds the time for which the FIFO then stays empty. A guest
	// that took long was perhaps not busy: it was stopped, or it reads a key
	// now and then.
	maxRest = 100 * time.Millisecond
	// pollCount is how many line status reads in vain make a guest one that
	// polls.
	pollCount = 8
)

// receiver is the receiving half of a UART, under the UART's lock. It holds
// input back by two rules.
//
// First, only a guest that listens gets input, and nothing that a guest does
// drops it. Linux's driver clears the FIFO and reads it empty several times
// before there is a first reader. Without this rule, what was typed or piped in
// until then would be lost.
//
// A guest listens if the receive interrupt is enabled, or if it polls, as boot
// loaders, memtest86+ and kgdb do. A driver also reads the line status to learn
// whether it may send, but then it sends at once. So a guest polls if it reads
// the line status pollCount times and sends nothing, sets up nothing, and
// doesn't read the data register without input in between. Linux's 8250 driver
// was seen to do at most two such reads in a row (serial8250_do_startup).
//
// Second, input is paced. Linux's interrupt handler returns when the FIFO is
// empty. If the FIFO were never empty, the guest would do nothing else, until
// its watchdogs report a lockup. So the FIFO is refilled for burstTime while
// the guest empties it, and then stays empty for as long as that took. On a
// machine of any speed the guest has half of the time for other work. The first
// bytes after a pause don't wait.
type receiver struct {
	queue ring
	fifo  int           // how many of the queue's bytes are in the FIFO
	space chan struct{} // the queue has room

	burst time.Time   // since when the guest empties the FIFO; zero if it doesn't
	rest  time.Time   // when the FIFO may be filled again
	timer *time.Timer // for rest
	rts   bool        // Request To Send was high
	held  bool        // Request To Send was high, and is low now

	idle  bool // the guest has read that it may send, and hasn't sent
	asked int  // how often it has read the line status since

	ended  <-chan struct{}
	closed chan struct{}
}

// newReceiver returns a receiver that calls due when rest is over.
func newReceiver(ended <-chan struct{}, due func()) receiver {
	timer := time.AfterFunc(math.MaxInt64, due) // Stop may come late, after a pause of the host
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

// over reports whether the guest has ended or the UART is closed.
func (r *receiver) over() bool { return isClosed(r.closed) || isClosed(r.ended) }

// fill moves input from the queue to the FIFO, unless the guest still reads from
// the FIFO, the rest isn't over, or flow control holds input back.
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

// pop takes a byte out of the FIFO, which must not be empty.
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

// setRTS is flow control. After a guest has lowered its Request To Send, it gets
// no more than what is in the FIFO. Linux lowers it if CRTSCTS is set (stty
// crtscts, console=ttyS0,115200n8r) and its reader falls behind. Without CRTSCTS,
// Linux drops input that doesn't fit into its own buffers.
func (r *receiver) setRTS(high bool) {
	r.rts = r.rts || high
	r.held = r.rts && !high
	r.fill()
}

// polls notes that the guest read the line status.
func (r *receiver) polls(empty bool) {
	if r.idle && !r.polled() {
		r.asked++
	}
	r.idle = empty
}

func (r *receiver) polled() bool { return r.asked >= pollCount }

// notPolled notes an access that a guest doesn't make while it polls.
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
		signal(u.rx.space) // wakes the next Input that waits
	}
	return n, nil
}
