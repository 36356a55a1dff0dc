package main

import (
	"io"
	"log/slog"
	"strings"
	"sync"
)

// escape is Ctrl-a: on a terminal, with x it stops the guest, and twice it is
// itself.
const escape = 'a' & 0x1f

// typeIn passes on to the guest what is typed, until it ends or stop is asked
// for: by the escape key, or by any of quit. What the guest hasn't read waits in
// a queue, so that the keys which stop it never do.
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
			slog.Warn("the guest doesn't read what is typed, and too much of that waits: it is dropped")
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

// escapes takes the keys that aren't for the guest out of what is typed.
type escapes struct {
	quit    string // keys that stop the guest by themselves
	pending bool   // the last byte was the escape
}

// next returns what is for the guest, in p's memory, and whether to stop it.
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

// queueSize is how much that was typed waits for the guest.
const queueSize = 1 << 20

// queue is what was typed and the guest hasn't read.
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

// put queues p. It never waits: where there is no room p is dropped, and the
// first time that this happens put returns false.
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

// close has pass end when it has passed everything on.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Signal()
}

// pass passes what is queued on to the guest, which may take its time.
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
