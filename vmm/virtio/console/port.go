package console

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"offmap/memory"
	"offmap/vmm/sink"
	"offmap/vmm/virtio"
)

// chunk is how many bytes are copied from or to guest RAM at a time.
const chunk = 4096

// port is one port.
type port struct {
	console *Console
	cfg     Port
	out     *sink.Sink
	in      *input      // nil if there is none
	ended   atomic.Bool // the guest has had all input, and In has ended

	guest   gate // a process in the guest has the port open
	closing atomic.Bool
	output  atomic.Pointer[virtio.Queue] // while it is served

	// Messages about the port that wait, as bits, and the terminal's size. The
	// console's control.mu is for these.
	pending       uint
	columns, rows uint16
}

func newPort(i int, cfg Port, c *Console) *port {
	name := fmt.Sprintf("output of virtio port %q", cfg.Name)
	if cfg.Console {
		name = "virtio console output"
	}
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	p := &port{console: c, cfg: cfg}
	p.out = sink.New(sink.Config{Name: name, Out: cfg.Out, Patient: !cfg.Console, OnError: cfg.OnError})
	if cfg.In != nil {
		p.in = newInput(cfg.In)
	}
	return p
}

func (p *port) close() error {
	if p.in != nil {
		p.in.close()
	}
	return p.out.Close()
}

// guestOpens is called when the guest says that it has opened or closed the port.
func (p *port) guestOpens(open bool) {
	if was := p.guest.set(open); !was || open {
		return
	}
	// The guest's output before this message is in the queue, or has been.
	p.closing.Store(true)
	if q := p.output.Load(); q != nil {
		q.Wake()
	}
}

// transmit takes the guest's output until the queue stops.
func (p *port) transmit(q *virtio.Queue) error {
	p.output.Store(q)
	defer p.output.Store(nil)
	if p.closing.Load() {
		q.Wake() // the guest has closed the port before there was a queue to wake
	}
	var buf [chunk]byte
	defer clear(buf[:])
	for {
		c, err := q.Next()
		if err != nil {
			return err
		}
		if c == nil { // Wake
			if p.closing.Swap(false) && p.out.Drain(q.Stopped()) && p.cfg.Closed != nil {
				p.cfg.Closed()
			}
			continue
		}
		size := c.Readable.Size()
		for rest := c.Readable; len(rest) > 0; {
			var head memory.Ranges
			head, rest = rest.Cut(chunk)
			b := buf[:head.Size()]
			if err := head.CopyOut(q.Guest(), b); err != nil {
				return err
			}
			if p.cfg.Console && p.console.sent != nil {
				for _, v := range b {
					p.console.sent(v)
				}
			}
			if !p.out.Write(b, q.Stopped()) || isClosed(q.Stopped()) {
				return nil // a request can be of 4 GiB
			}
		}
		p.console.counters.Count(kindOutput, 0, size)
		if err := q.Done(c, 0); err != nil {
			return err
		}
	}
}

// receive hands input to the guest until the queue stops.
func (p *port) receive(q *virtio.Queue) error {
	for {
		c, err := q.Next()
		if err != nil {
			return err
		}
		b, ok := p.input(q.Stopped())
		if !ok {
			return nil
		}
		n := min(uint64(len(b)), c.Writable.Size())
		if err := c.Writable.CopyIn(q.Guest(), b[:n]); err != nil {
			return err
		}
		p.in.taken(int(n))
		p.console.counters.Count(kindInput, n, 0)
		if err := q.Done(c, uint32(n)); err != nil {
			return err
		}
	}
}

// input waits for input that the guest is ready for. At the end of In it tells the guest
// and waits for stop. It reports false if stop is closed.
func (p *port) input(stop <-chan struct{}) ([]byte, bool) {
	for p.guest.wait(stop) {
		if p.in == nil {
			break
		}
		b, ended, ok := p.in.wait(stop)
		switch {
		case !ok:
			return nil, false
		case ended:
			if !p.cfg.Console {
				p.ended.Store(true)
				p.console.post([]*port{p}, 1<<msgOpen)
				p.console.control.notify()
			}
			<-stop
			return nil, false
		case p.guest.isOpen(): // still
			return b, true
		}
	}
	<-stop
	return nil, false
}

// gate is open or closed, and can be waited for.
type gate struct {
	mu      sync.Mutex
	open    bool
	changed chan struct{} // closed when open changes; nil if nobody waits
}

// set opens or closes the gate, and reports whether it was open.
func (g *gate) set(open bool) (was bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, g.open = g.open, open
	if g.changed != nil && was != open {
		close(g.changed)
		g.changed = nil
	}
	return was
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// wait waits until the gate is open, and reports false if stop is closed before.
func (g *gate) wait(stop <-chan struct{}) bool {
	for {
		g.mu.Lock()
		if g.open {
			g.mu.Unlock()
			return true
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-stop:
			return false
		}
	}
}
