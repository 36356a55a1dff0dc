package serial

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// queueSize is how many bytes the guest may be ahead of the writer.
	queueSize = 64 << 10
	// holdTime is how long a byte waits for the rest of its line.
	holdTime = 5 * time.Millisecond
	// A writer is stuck when it takes no byte in patience ticks. Ticks are
	// counted one by one, because after the machine stood still the clock says
	// nothing about the writer.
	tick     = time.Second
	patience = 10
	// closeTime is how long close waits for the writer after stop.
	closeTime = 500 * time.Millisecond
)

var (
	errStuck   = errors.New("the writer is stuck")
	errStalled = errors.New("the writer was stuck for a while")
)

// transmitter carries bytes from the guest to a writer.
//
// Each byte costs the guest an exit, and shouldn't cost the host a system call too.
// So the writer gets bytes at the end of a line, when the driver disables its
// interrupt, and after holdTime at the latest.
//
// While the queue is full, the transmitter isn't ready, and a driver with interrupts
// waits. Linux's console doesn't wait for long before it sends anyway; then put
// waits. Bytes are lost, and the loss is reported, only while the writer is stuck.
type transmitter struct {
	out     *output
	onError func(error)
	onRoom  func()          // called when the queue was full and isn't any more
	ended   <-chan struct{} // closed when put doesn't wait any more

	wake    chan struct{} // the queue isn't empty
	hurry   chan struct{} // don't wait for more
	room    chan struct{} // the queue was emptied
	done    chan struct{} // the goroutine is gone
	stopped chan struct{} // close doesn't wait for long
	stop    func()        // closes stopped, once

	mu      sync.Mutex
	queue   []byte
	sent    uint64 // bytes put, lost ones included
	stalled bool   // the last wait for room was in vain
	err     error  // the latest reason why bytes were lost
	closed  bool
}

func newTransmitter(w io.Writer, ended <-chan struct{}, onError func(error), onRoom func()) *transmitter {
	t := &transmitter{
		out:     &output{w: w, quit: make(chan struct{})},
		onError: onError, onRoom: onRoom, ended: ended,
		wake:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		stopped: make(chan struct{}),
		queue:   make([]byte, 0, queueSize),
	}
	t.stop = sync.OnceFunc(func() { close(t.stopped) })
	go t.run()
	return t
}

// signal puts a token into c unless it has one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// isClosed reports whether c, which nobody sends on, is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ready reports whether put has room.
func (t *transmitter) ready() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) < queueSize
}

// put queues b, waiting for room if it must.
func (t *transmitter) put(b byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	if len(t.queue) >= queueSize && !t.await() || t.closed {
		return
	}
	t.queue = append(t.queue, b)
	if len(t.queue) == 1 {
		signal(t.wake)
	}
	if b == '\n' || len(t.queue) >= queueSize {
		signal(t.hurry)
	}
}

// await drops the lock until the queue has room, and reports whether a byte may be
// queued. Once the guest has ended, await doesn't wait and the queue may grow: its
// vCPUs send no more than what is left of one string instruction each.
func (t *transmitter) await() bool {
	for len(t.queue) >= queueSize && !t.stalled && !isClosed(t.ended) {
		t.mu.Unlock()
		moved := t.wait(t.room, t.ended)
		t.mu.Lock()
		if !moved && !isClosed(t.ended) && len(t.queue) >= queueSize {
			t.stalled = true
			if t.err == nil {
				t.err = errStalled
				// A goroutine of its own, because onError may be
				// stuck as well, and must not hold up the vCPU.
				go t.onError(fmt.Errorf("serial output: %w (no progress in %v): what the guest sends is lost until it goes on", errStuck, patience*tick))
			}
		}
	}
	if len(t.queue) < queueSize {
		signal(t.room) // wakes the next vCPU that waits
	}
	return !t.stalled
}

// wait waits for c, and reports false if cut came first or the writer is stuck.
func (t *transmitter) wait(c, cut <-chan struct{}) bool {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	seen := t.out.wrote.Load()
	for idle := 0; idle < patience; idle++ {
		select {
		case <-c:
			return true
		case <-cut:
			return false
		case <-ticks.C:
			if now := t.out.wrote.Load(); now != seen {
				seen, idle = now, -1
			}
		}
	}
	return false
}

// flush has the goroutine write what is queued, without waiting for more.
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
		closed := t.closed
		t.mu.Unlock()
		signal(t.room)
		if len(batch) >= queueSize {
			t.onRoom()
		}

		if err := t.out.write(batch); err != nil {
			t.fail(err)
		}
		if closed {
			return
		}
	}
}

// fail notes a failed write, whose bytes are lost. Later writes are still tried,
// because a full disk may have room again. Only the first failure is reported.
func (t *transmitter) fail(err error) {
	t.mu.Lock()
	first := t.err == nil || t.err == errStalled
	t.err = err
	t.mu.Unlock()
	if first && !isClosed(t.out.quit) {
		t.onError(fmt.Errorf("serial output: %w", err))
	}
}

// close writes what is left and ends the goroutine. It waits while the writer makes
// progress. It doesn't wait for a stuck writer, and after stop waits for closeTime
// at most.
func (t *transmitter) close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	signal(t.hurry)
	signal(t.wake)
	stuck := !t.wait(t.done, t.stopped)
	if stuck && isClosed(t.stopped) {
		select {
		case <-t.done:
			stuck = false
		case <-time.After(closeTime):
		}
	}
	close(t.out.quit)

	t.mu.Lock()
	defer t.mu.Unlock()
	lost := t.sent - t.out.wrote.Load()
	switch {
	case lost == 0:
		return nil
	case stuck:
		t.err = errStuck
	case t.err == nil:
		t.err = os.ErrClosed // sent after close
	}
	return fmt.Errorf("serial output: %d of %d bytes are lost: %w", lost, t.sent, t.err)
}
