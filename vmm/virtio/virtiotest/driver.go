// Package virtiotest is the driver's side of virtio, for tests of devices: without a
// VM, and without a transport unless the test has one.
package virtiotest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"offmap/memory"
	"offmap/vmm/virtio"
)

// Limit is how long a device may take for anything, before a test calls it hung.
const Limit = time.Minute

// fence orders a store to guest RAM before a later load.
func fence() { private.Add(1) }

var private atomic.Uint32

// Driver drives one device: as the kernel's does it, or with raw access to rings.
type Driver struct {
	// RAM is guest RAM of its own. There are holes in it.
	RAM *memory.RAM
	// Rings are the driver's sides of the queues.
	Rings []*Ring

	t      testing.TB
	dev    virtio.Device
	queues []*virtio.Queue
	kicks  []*virtio.Kick
	serve  sync.WaitGroup

	mu     sync.Mutex
	broken error
	notice chan struct{} // closed when the device is broken
}

// Areas of the driver's RAM. There is a hole between the two.
const (
	ringArea   = 0
	ringMax    = 16 << 20
	bufferArea = memory.GPA(1 << 30)
	bufferSize = 64 << 20 // for each queue
)

// New starts a device, with all of its queues at their largest sizes and all features.
// At the end of the test the device is reset and closed. It fails the test if it is
// broken then, unless the test has called Broken.
func New(t testing.TB, dev virtio.Device) *Driver {
	return NewWith(t, dev, ^uint64(0))
}

// NewWith is New with those features only that are in the mask.
func NewWith(t testing.TB, dev virtio.Device, features uint64) *Driver {
	t.Helper()
	sizes := dev.QueueSizes()
	layout, err := memory.LayoutOf(memory.Region{Start: ringArea, Size: ringMax},
		memory.Region{Start: bufferArea, Size: bufferSize * uint64(len(sizes))})
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{t: t, dev: dev}
	if d.RAM, err = memory.New(memory.Anon, layout); err != nil {
		t.Fatal(err)
	}
	var at memory.GPA = ringArea
	for i, size := range sizes {
		kick, err := virtio.NewKick()
		if err != nil {
			t.Fatal(err)
		}
		d.kicks = append(d.kicks, kick)
		r := NewRing(t, d.RAM, size, at, memory.Range{GPA: bufferArea + memory.GPA(i)*bufferSize, Size: bufferSize})
		r.Notify = kick.Signal
		d.Rings = append(d.Rings, r)
		at += memory.GPA(RingSize(size))
	}
	d.Start(features)
	t.Cleanup(d.close)
	return d
}

// Start makes queues and serves them, after New or Reset.
func (d *Driver) Start(features uint64) {
	d.t.Helper()
	features &= d.dev.Features() | virtio.IndirectDesc | virtio.EventIdx | virtio.Version1
	d.broken, d.notice = nil, make(chan struct{})
	d.queues = nil
	for i, r := range d.Rings {
		r.Features = features
		q, err := virtio.NewQueue(d.RAM, r.Rings, d.dev.QueueSizes()[i], features, d.kicks[i], r.Interrupt)
		if err != nil {
			d.t.Fatal(err)
		}
		d.queues = append(d.queues, q)
	}
	for i, q := range d.queues {
		d.serve.Add(1)
		go func() {
			defer d.serve.Done()
			if err := d.dev.Serve(i, q, features); err != nil && !errors.Is(err, virtio.ErrStopped) {
				d.needsReset(err)
			}
		}()
	}
}

func (d *Driver) needsReset(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
		close(d.notice)
		for _, r := range d.Rings {
			r.Stop()
		}
	}
}

// Stop resets the device, but leaves the rings as they are. It fails the test if a
// Serve doesn't return.
func (d *Driver) Stop() {
	d.t.Helper()
	for _, q := range d.queues {
		q.Stop()
	}
	stopped := make(chan struct{})
	go func() {
		d.serve.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(Limit):
		d.t.Fatal("the device doesn't stop at a reset")
	}
	for _, r := range d.Rings {
		r.Stop()
	}
}

// Reset resets the device, zeroes the rings, and starts it again. Requests in flight
// are lost. It returns why the device was broken, if it was.
func (d *Driver) Reset(features uint64) error {
	d.t.Helper()
	d.Stop()
	err := d.broken
	for _, r := range d.Rings {
		r.Reset()
	}
	d.Start(features)
	return err
}

// Broken waits until the device says that it needs a reset, and returns why.
func (d *Driver) Broken() error {
	d.t.Helper()
	select {
	case <-d.notice:
	case <-time.After(Limit):
		d.t.Fatal("the device isn't broken")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.broken
	d.broken = nil
	return err
}

func (d *Driver) close() {
	d.t.Helper()
	d.Stop()
	if d.broken != nil {
		d.t.Errorf("the device is broken: %v", d.broken)
	}
	for _, k := range d.kicks {
		if err := k.Close(); err != nil {
			d.t.Error(err)
		}
	}
	if err := errors.Join(d.dev.Close(), d.RAM.Close()); err != nil {
		d.t.Error(err)
	}
}

// Request makes a request and waits until the device has used it: readable is what
// the device reads, writable the sizes of what it writes. It returns how many bytes the
// device says that it wrote, and the whole writable buffers.
func (d *Driver) Request(queue int, readable [][]byte, writable []int) (written uint32, out [][]byte) {
	d.t.Helper()
	written, out, ok := d.Rings[queue].Send(readable, writable).Wait()
	if !ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.t.Fatalf("the device doesn't answer (broken: %v)", d.broken)
	}
	return written, out
}
