package console

import (
	"encoding/binary"
	"fmt"
	"sync"

	"offmap/vmm/virtio"
)

// Events of control messages, virtio 1.2 §5.3.6.2.
const (
	msgDeviceReady = 0 // by the driver
	msgAdd         = 1
	msgReady       = 3 // by the driver
	msgConsole     = 4
	msgResize      = 5
	msgOpen        = 6 // by either
	msgName        = 7
)

// messageSize is the size in bytes of struct virtio_console_control: a port's number,
// an event and a value.
const messageSize = 8

// control has the messages for the driver that wait for a buffer. They are bits of each
// port, so that no driver can pile them up: a message that waits isn't sent twice.
type control struct {
	wake chan struct{} // there may be messages

	mu sync.Mutex // also of the ports' fields for messages
}

func (c *control) notify() { signal(c.wake) }

// receiveControl handles the driver's messages until the queue stops. It makes this
// device's ports what they are before a driver comes.
func (c *Console) receiveControl(q *virtio.Queue) error {
	defer c.reset()
	var msg [messageSize]byte
	for {
		chain, err := q.Next()
		if err != nil {
			return err
		}
		c.counters.Count(kindControl, 0, 0)
		// A message that is too short says nothing.
		if chain.Readable.Size() >= messageSize {
			if err := chain.Readable.CopyOut(q.Guest(), msg[:]); err != nil {
				return err
			}
			c.handle(binary.LittleEndian.Uint32(msg[:]), binary.LittleEndian.Uint16(msg[4:]), binary.LittleEndian.Uint16(msg[6:]))
		}
		if err := q.Done(chain, 0); err != nil {
			return err
		}
	}
}

// handle handles a message. Messages that make no sense are ignored, as QEMU does.
func (c *Console) handle(id uint32, event, value uint16) {
	defer c.control.notify()
	if event == msgDeviceReady {
		if value == 1 {
			c.post(c.ports, 1<<msgAdd)
		}
		return
	}
	if id >= uint32(len(c.ports)) {
		return
	}
	p := c.ports[id]
	switch {
	case event == msgReady && value == 1:
		c.post(c.ports[id:id+1], p.state())
	case event == msgOpen:
		p.guestOpens(value != 0)
	}
}

// state is all that there is to say about a port.
func (p *port) state() uint {
	events := uint(1 << msgResize)
	if p.cfg.Console {
		events |= 1 << msgConsole
	}
	if p.cfg.Name != "" {
		events |= 1 << msgName
	}
	if !p.ended.Load() {
		events |= 1 << msgOpen
	}
	return events
}

// post has messages sent about each of some ports.
func (c *Console) post(ports []*port, events uint) {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	for _, p := range ports {
		p.pending |= events
	}
}

// reset forgets a driver.
func (c *Console) reset() {
	c.control.mu.Lock()
	for _, p := range c.ports {
		p.pending = 0
	}
	c.control.mu.Unlock()
	for _, p := range c.ports {
		p.guest.set(false)
		p.closing.Store(false)
	}
}

// sendControl sends messages to the driver until the queue stops.
func (c *Console) sendControl(q *virtio.Queue) error {
	for {
		chain, err := q.Next()
		if err != nil {
			return err
		}
		msg := c.nextMessage()
		for ; msg == nil; msg = c.nextMessage() {
			select {
			case <-c.control.wake:
			case <-q.Stopped():
				return nil
			}
		}
		if err := chain.Writable.CopyIn(q.Guest(), msg); err != nil {
			return fmt.Errorf("control message: %w", err)
		}
		c.counters.Count(kindControl, 0, 0)
		if err := q.Done(chain, uint32(len(msg))); err != nil {
			return err
		}
	}
}

// order is the order in which messages about a port are sent: what it is, before what
// happens to it.
var order = [...]int{msgAdd, msgConsole, msgName, msgOpen, msgResize}

// nextMessage takes the next message that waits, or returns nil.
func (c *Console) nextMessage() []byte {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	for id, p := range c.ports {
		for _, event := range order {
			if p.pending&(1<<event) == 0 {
				continue
			}
			p.pending &^= 1 << event
			if event == msgResize && p.columns == 0 && p.rows == 0 {
				continue // nobody knows
			}
			return p.message(id, event)
		}
	}
	return nil
}

// message is a message about a port, with what follows it.
func (p *port) message(id, event int) []byte {
	value := uint16(1)
	if event == msgOpen && p.ended.Load() {
		value = 0
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(id))
	b = binary.LittleEndian.AppendUint16(b, uint16(event))
	b = binary.LittleEndian.AppendUint16(b, value)
	switch event {
	case msgResize: // struct virtio_console_resize
		b = binary.LittleEndian.AppendUint16(b, p.columns)
		b = binary.LittleEndian.AppendUint16(b, p.rows)
	case msgName:
		b = append(b, p.cfg.Name...)
	}
	return b
}
