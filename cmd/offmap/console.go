package main

import (
	"io"
	"log/slog"
	"strings"
	"sync"
)

// escape is Ctrl-a. Ctrl-a x stops the guest, and Ctrl-a Ctrl-a sends a Ctrl-a.
const escape = 'a' & 0x1f

// typeIn passes typed input on to the guest, until the guest ends, or the escape key or
// one of the keys in quit stops it. Input that the guest hasn't read waits in a queue,
// so that the keys that stop the guest don't wait.
func typeIn(in io.Reader, quit string, guest io.Writer, stop func()) {
	var (
		keys = escapes{quit: quit}
		q    = newQueue()
		buf  = make([]byte, 4096)
	)
	defer q.close()
	go q.pass(guest)
	for {
		n, err := in.Read(buf)
		out, stopped := keys.next(buf[:n])
		if !q.put(out) {
			slog.Warn("the guest doesn't read its input, and the queue is full: what is typed is dropped")
		}
		if stopped {
			stop()
			return
		}
		if err != nil {
			return
		}
	}
}

// escapes takes offmap's own keys out of the typed input.
type escapes struct {
	quit    string // keys that stop the guest by themselves
	pending bool   // the last byte was the escape
}

// next returns the guest's part of p, in p's memory, and whether to stop the guest.
func (e *escapes) next(p []byte) (out []byte, stop bool) {
	out = p[:0]
	for _, c := range p {
		switch {
		case e.pending && c == 'x', strings.IndexByte(e.quit, c) >= 0:
			return out, true
		case !e.pending && c == escape:
			e.pending = true
			continue
		}
		e.pending = false
		out = append(out, c)
	}
	return out, false
}

// queueSize is how many bytes of typed input wait for the guest.
const queueSize = 1 << 20

// queue is the typed input that the guest hasn't read.
type queue struct {
	mu      sync.Mutex
	changed *sync.Cond
	waiting []byte
	dropped bool
	closed  bool
}

func newQueue() *queue {
	q := &queue{}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// put queues p. It never waits: without room it drops p, and returns false at the
// first time.
func (q *queue) put(p []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+len(p) > queueSize {
		first := !q.dropped
		q.dropped = true
		return !first
	}
	q.waiting = append(q.waiting, p...)
	q.changed.Signal()
	return true
}

// close ends pass once the queue is empty.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Signal()
}

// pass passes the queue on to the guest. It waits while the guest doesn't read.
func (q *queue) pass(guest io.Writer) {
	for {
		q.mu.Lock()
		for len(q.waiting) == 0 && !q.closed {
			q.changed.Wait()
		}
		p := q.waiting
		q.waiting = nil
		q.mu.Unlock()
		if len(p) == 0 {
			return
		}
		if _, err := guest.Write(p); err != nil {
			return // it has ended
		}
	}
}
