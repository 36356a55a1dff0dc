// Package sink carries a guest's output to a writer that may be slow or stuck: of its
// serial port, and of the ports of its virtio console.
package sink

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// QueueSize is how many bytes the guest may be ahead of the writer.
	QueueSize = 64 << 10
	// HoldTime is how long a byte waits for the rest of its line.
	HoldTime = 5 * time.Millisecond
	// Patience is the time after which a writer that takes no byte is stuck. It
	// is counted in ticks, because after the machine stood still the clock says
	// nothing about the writer.
	Patience = ticks * tick
	tick     = time.Second
	ticks    = 10
	// CloseTime is how long Close waits for the writer after Stop.
	CloseTime = 500 * time.Millisecond
)

// ErrStuck is wrapped by the error for output that is lost because the writer takes
// none.
var ErrStuck = errors.New("the writer is stuck")

var errStalled = errors.New("the writer was stuck for a while")

// Config describes a Sink.
type Config struct {
	Name string    // of the output, which begins its errors
	Out  io.Writer // needs no buffering
	// Patient makes a Write that waits for a stuck writer wait on, rather than
	// lose output.
	Patient bool
	// Ended, if not nil, is closed when Put doesn't wait any more.
	Ended <-chan struct{}
	// OnError, if not nil, is called when Out fails, and when it is stuck for so
	// long that output is lost: once for each, on a goroutine of the Sink.
	OnError func(error)
	// OnRoom, if not nil, is called when the queue was full and isn't any more.
	OnRoom func()
}

// Sink carries bytes from the guest to a writer, from a goroutine of its own.
//
// With a serial port each byte costs the guest an exit, and shouldn't cost the host a
// system call too. So the writer gets bytes at the end of a line, at a Flush, and
// after HoldTime at the latest.
//
// While the queue is full, the Sink isn't ready, and a driver with interrupts waits.
// Linux's serial console doesn't wait for long before it sends anyway, and its virtio
// console keeps a vCPU busy until the bytes are taken; then Put and Write wait. Bytes
// are lost, and the loss is reported, only while the writer is stuck.
//
// What the guest writes is in ordinary memory here, as it will be where it goes. The
// queue is wiped when the writer has taken it.
type Sink struct {
	cfg Config
	out *output

	wake    chan struct{} // the queue isn't empty
	hurry   chan struct{} // don't wait for more
	room    chan struct{} // the queue was emptied
	wrote   chan struct{} // the writer has had what was queued
	done    chan struct{} // the goroutine is gone
	stopped chan struct{} // Close doesn't wait for long
	stop    func()        // closes stopped, once

	mu      sync.Mutex
	queue   []byte
	writing bool   // the goroutine has taken bytes off the queue and is not done
	sent    uint64 // bytes put, lost ones included
	stalled bool   // the last wait for room was in vain
	err     error  // the latest reason why bytes were lost
	closed  bool
}

// New returns a Sink, and starts its goroutine, which Close ends.
func New(cfg Config) *Sink {
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	if cfg.OnRoom == nil {
		cfg.OnRoom = func() {}
	}
	s := &Sink{
		cfg:     cfg,
		out:     &output{w: cfg.Out, quit: make(chan struct{})},
		wake:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		room:    make(chan struct{}, 1),
		wrote:   make(chan struct{}, 1),
		done:    make(chan struct{}),
		stopped: make(chan struct{}),
		queue:   make([]byte, 0, QueueSize),
	}
	s.stop = sync.OnceFunc(func() { close(s.stopped) })
	go s.run()
	return s
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

// Ready reports whether Put has room.
func (s *Sink) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) < QueueSize
}

// Put queues b, waiting for room if it must.
func (s *Sink) Put(b byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
	if len(s.queue) >= QueueSize && !s.await(s.cfg.Ended) || s.closed {
		return
	}
	s.queue = append(s.queue, b)
	s.queued(1)
}

// queued wakes the goroutine for n bytes more in the queue. While nobody waits for room
// any more, the queue may grow.
func (s *Sink) queued(n int) {
	if len(s.queue) == n {
		signal(s.wake)
	}
	if s.queue[len(s.queue)-1] == '\n' || len(s.queue) >= QueueSize || s.cfg.Patient {
		signal(s.hurry)
	}
}

// Write queues p, waiting for room if it must. It returns when all is queued or lost.
// If it reports false, it gave up because stop was closed, and what it didn't queue
// doesn't count as lost.
func (s *Sink) Write(p []byte, stop <-chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		if len(s.queue) >= QueueSize {
			had := s.await(stop)
			if isClosed(stop) && len(s.queue) >= QueueSize {
				return false
			}
			if !had {
				break
			}
		}
		if s.closed {
			break
		}
		n := min(len(p), QueueSize-len(s.queue))
		s.sent += uint64(n)
		s.queue = append(s.queue, p[:n]...)
		s.queued(n)
		p = p[n:]
	}
	s.sent += uint64(len(p)) // lost
	return true
}

// await drops the lock until the queue has room, and reports whether a byte may be
// queued. Once cut is closed, await doesn't wait: a guest that has ended sends no more
// than what is left of one string instruction of each vCPU.
func (s *Sink) await(cut <-chan struct{}) bool {
	for len(s.queue) >= QueueSize && !s.stalled && !isClosed(cut) {
		s.mu.Unlock()
		moved := s.wait(s.room, cut)
		s.mu.Lock()
		if !moved && !isClosed(cut) && len(s.queue) >= QueueSize && !s.cfg.Patient {
			s.stalled = true
			if s.err == nil {
				s.err = errStalled
				// A goroutine of its own, because OnError may be
				// stuck as well, and must not hold up the vCPU.
				go s.cfg.OnError(fmt.Errorf("%s: %w (no progress in %v): what the guest sends is lost until it goes on", s.cfg.Name, ErrStuck, Patience))
			}
		}
	}
	if len(s.queue) < QueueSize {
		signal(s.room) // wakes the next one that waits
	}
	return !s.stalled
}

// wait waits for c, and reports false if cut came first or the writer is stuck.
func (s *Sink) wait(c, cut <-chan struct{}) bool {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	seen := s.out.wrote.Load()
	for idle := 0; idle < ticks; idle++ {
		select {
		case <-c:
			return true
		case <-cut:
			return false
		case <-clock.C:
			if now := s.out.wrote.Load(); now != seen {
				seen, idle = now, -1
			}
		}
	}
	return false
}

// Flush has the goroutine write what is queued, without waiting for more.
func (s *Sink) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		signal(s.hurry)
	}
}

// Drain waits until the writer has had all that is queued, and reports false if stop
// was closed before. One goroutine may call it at a time.
func (s *Sink) Drain(stop <-chan struct{}) bool {
	for {
		s.Flush()
		s.mu.Lock()
		idle := len(s.queue) == 0 && !s.writing || s.closed
		s.mu.Unlock()
		if idle {
			return true
		}
		select {
		case <-s.wrote:
		case <-stop:
			return false
		}
	}
}

// run writes the queue out until Close.
func (s *Sink) run() {
	defer close(s.done)
	spare := make([]byte, 0, QueueSize)
	hold := time.NewTimer(HoldTime)
	for range s.wake {
		hold.Reset(HoldTime)
		select {
		case <-s.hurry:
		case <-hold.C:
		}

		s.mu.Lock()
		batch := s.queue
		s.queue, s.stalled, s.writing = spare[:0], false, true
		closed := s.closed
		s.mu.Unlock()
		signal(s.room)
		if len(batch) >= QueueSize {
			s.cfg.OnRoom()
		}

		if err := s.out.write(batch); err != nil {
			s.fail(err)
		}
		clear(batch)
		spare = batch
		s.mu.Lock()
		s.writing = false
		s.mu.Unlock()
		signal(s.wrote)
		if closed {
			return
		}
	}
}

// fail notes a failed write, whose bytes are lost. Later writes are still tried,
// because a full disk may have room again. Only the first failure is reported.
func (s *Sink) fail(err error) {
	s.mu.Lock()
	first := s.err == nil || s.err == errStalled
	s.err = err
	s.mu.Unlock()
	if first && !isClosed(s.out.quit) {
		s.cfg.OnError(fmt.Errorf("%s: %w", s.cfg.Name, err))
	}
}

// Stop makes Close, now or later, wait at most CloseTime for a writer that is stuck.
// Any goroutine may call it at any time, Config's functions too.
func (s *Sink) Stop() { s.stop() }

// Close writes what is left and ends the goroutine. It waits while the writer makes
// progress. It doesn't wait for a stuck writer, and after Stop waits for CloseTime
// at most. The error says how much output was lost since New, and why.
func (s *Sink) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	signal(s.hurry)
	signal(s.wake)
	stuck := !s.wait(s.done, s.stopped)
	if stuck && isClosed(s.stopped) {
		select {
		case <-s.done:
			stuck = false
		case <-time.After(CloseTime):
		}
	}
	close(s.out.quit)

	s.mu.Lock()
	defer s.mu.Unlock()
	lost := s.sent - s.out.wrote.Load()
	switch {
	case lost == 0:
		return nil
	case stuck:
		s.err = ErrStuck
	case s.err == nil:
		s.err = os.ErrClosed // sent after Close
	}
	return fmt.Errorf("%s: %d of %d bytes are lost: %w", s.cfg.Name, lost, s.sent, s.err)
}
