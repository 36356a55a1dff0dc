// Package console is a virtio console device with any number of ports, virtio 1.2 §5.3.
//
// In a Linux guest a console port is a terminal, /dev/hvc0 and on. Any other port is a
// character device /dev/vportNpM, whose name is in
// /sys/class/virtio-ports/vportNpM/name, and where udev runs, /dev/virtio-ports/NAME.
// One process at a time can have it open. Bytes pass as they are.
//
// What goes through a port leaves the guest, or comes from outside of it. So it is in
// ordinary memory on its way: in a queue of 64 KiB at most for each port and direction,
// which is wiped as it is emptied, and in whatever reads and writes it on the host.
package console

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"offmap/vmm/virtio"
)

const (
	deviceID  = 3 // virtio 1.2 §5.3.1
	queueSize = 128
	// maxPorts keeps the number of queues, and of goroutines, low.
	maxPorts = 16
	maxName  = 64 // bytes of a name; a driver's buffer for messages holds it
)

// Feature bits, §5.3.3.
const (
	featureSize      = 1 << 0
	featureMultiport = 1 << 1
)

// Port is what the host has at its end of a port.
type Port struct {
	Name    string // of a port that is no console; letters, digits and . _ -
	Console bool   // the guest's terminal
	// In is what the guest reads, nil if there is nothing. It is read when a
	// process in the guest has the port open and waits for input, so no input
	// gets lost before. At the end of In the guest sees an end of file on the
	// port, when it has read all, and can't write to the port any more. A
	// console has no end.
	In io.Reader
	// Out gets what the guest writes, nil discards it. A writer that takes nothing
	// makes the guest's writes to this port wait. But the guest can do nothing
	// else while its console waits: so after ten seconds a console port loses
	// output until its writer goes on, as the serial port does.
	Out io.Writer
	// Closed, if not nil, is called when the guest has closed the port, after Out
	// has got all that was written before. The guest may open and close it again.
	// It is not called when the guest ends, and what the guest has written right
	// before its end may be lost. It must not block.
	Closed func()
	// OnError, if not nil, is called when Out fails, and when a console loses
	// output: once for each, on another goroutine.
	OnError func(error)
}

// Console is the device. It implements virtio.Device.
type Console struct {
	ports    []*port
	sent     func(byte) // or nil
	counters *virtio.Counters
	control  control
}

// Kinds of requests for Stats.
const (
	kindInput = iota
	kindOutput
	kindControl
)

// New makes a console device. Its ports start when the guest does.
func New(ports ...Port) (*Console, error) {
	if len(ports) == 0 || len(ports) > maxPorts {
		return nil, fmt.Errorf("a virtio console with %d ports: it has 1 to %d", len(ports), maxPorts)
	}
	for i, p := range ports {
		if err := checkName(p); err != nil {
			return nil, fmt.Errorf("port %d of the virtio console: %w", i, err)
		}
	}
	c := &Console{counters: virtio.NewCounters("input", "output", "control")}
	c.control.wake = make(chan struct{}, 1)
	for i, p := range ports {
		c.ports = append(c.ports, newPort(i, p, c))
	}
	return c, nil
}

func checkName(p Port) error {
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}
	switch {
	case p.Name == "" && p.Console:
		return nil
	case p.Name == "" || len(p.Name) > maxName || strings.ContainsFunc(p.Name, odd):
		return fmt.Errorf("name %q: a name has 1 to %d letters, digits or any of . _ -", p.Name, maxName)
	}
	return nil
}

// Watch has sent called with each byte that the guest writes to a console port, before
// the guest is told that it is written. It must be called before the device is attached.
// sent must be quick, and is called from several goroutines if there are several
// consoles.
func (c *Console) Watch(sent func(byte)) { c.sent = sent }

// Resize tells the guest the size of a console port's terminal, in characters. Linux
// before 6.16 takes columns for rows (its commit 5326ab737a47).
func (c *Console) Resize(port int, columns, rows uint16) {
	p := c.ports[port]
	c.control.mu.Lock()
	p.columns, p.rows = columns, rows
	p.pending |= 1 << msgResize
	c.control.mu.Unlock()
	c.control.notify()
}

// Name implements virtio.Device.
func (*Console) Name() string { return "console" }

// ID implements virtio.Device.
func (*Console) ID() uint16 { return deviceID }

// Features implements virtio.Device.
func (*Console) Features() uint64 { return featureSize | featureMultiport }

// Numbers of the queues, §5.3.2. The two of port 0 come before those for control
// messages, and those of the others after.
const (
	queueControlIn  = 2 // the guest receives
	queueControlOut = 3
)

// QueueSizes implements virtio.Device.
func (c *Console) QueueSizes() []int {
	sizes := make([]int, 2*len(c.ports)+2)
	for i := range sizes {
		sizes[i] = queueSize
	}
	return sizes
}

// Config implements virtio.Device: struct virtio_console_config, §5.3.4.
func (c *Console) Config() []byte {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	b := binary.LittleEndian.AppendUint16(nil, c.ports[0].columns)
	b = binary.LittleEndian.AppendUint16(b, c.ports[0].rows)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c.ports)))
	return binary.LittleEndian.AppendUint32(b, 0) // emergency write, not offered
}

// Serve implements virtio.Device.
func (c *Console) Serve(i int, q *virtio.Queue, features uint64) error {
	err := c.serve(i, q, features&featureMultiport != 0)
	if errors.Is(err, virtio.ErrStopped) {
		return nil
	}
	return err
}

func (c *Console) serve(i int, q *virtio.Queue, multiport bool) error {
	switch {
	case i == queueControlIn:
		return c.sendControl(q)
	case i == queueControlOut:
		return c.receiveControl(q)
	case i > queueControlOut:
		i -= 2
	}
	p := c.ports[i/2]
	if i < 2 && !multiport {
		// There are no control messages: the only port is open.
		p.guest.set(true)
		defer p.guest.set(false)
	}
	if i%2 == 0 {
		return p.receive(q)
	}
	return p.transmit(q)
}

// Stats returns what was transferred: what the guest has read is input.
func (c *Console) Stats() virtio.Stats { return c.counters.Stats() }

// Stop makes Close wait no more than half a second for a port's writer that is stuck.
func (c *Console) Stop() {
	for _, p := range c.ports {
		p.out.Stop()
	}
}

// Close implements virtio.Device. It writes out what the guest has written, and waits
// for writers that take it, however slowly. A read of In that waits goes on until it
// returns; what it then returns is lost.
func (c *Console) Close() error {
	errs := make([]error, len(c.ports))
	var wg sync.WaitGroup
	for i, p := range c.ports {
		wg.Go(func() { errs[i] = p.close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
