package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"offmap/memory"
)

// ErrStopped is Next's error when the device was reset, or the machine has ended.
var ErrStopped = errors.New("virtqueue stopped")

// What else is wrong with a queue.
var (
	errJump     = errors.New("the avail index is ahead by more than the queue's size")
	errInFlight = errors.New("more requests at once than the queue has descriptors")
)

// headBatch is how many heads are read from the avail ring at a time.
const headBatch = 32

// Queue is a split virtqueue, virtio 1.2 §2.7.
//
// Next and TryNext are for one goroutine, Done for any.
type Queue struct {
	guest     memory.Guest
	layout    memory.Layout
	rings     Rings
	limit     int // most descriptors of a chain
	features  uint64
	kick      *Kick
	interrupt func()

	stopped atomic.Bool
	woken   atomic.Bool
	stop    chan struct{}
	once    sync.Once
	// fence is private memory. An atomic operation on it is a full barrier on
	// x86: a store to guest RAM before it is visible to the guest before a later
	// load is done. Go has no other way to say so (SDM vol. 3 §9.2.3.9).
	fence atomic.Uint32

	// Next's.
	next      uint16 // index in the avail ring of the next request to read
	heads     [headBatch]uint16
	taken, of int // heads[taken:of] are read but not returned yet
	descs     [indirectBatch * descSize]byte
	in        [2 * headBatch]byte
	err       error // of a broken queue: it stays so

	mu     sync.Mutex
	chains int // made so far, at most rings.Size
	free   []*Chain
	used   uint16 // index in the used ring of the next element to write
	out    [8]byte
}

// NewQueue makes the device's side of a queue that a driver has set up. Chains of up
// to limit descriptors are accepted: the size of the queue that the driver was offered.
// features are what the driver has accepted. interrupt tells the driver that requests
// are used. It is called from several goroutines.
func NewQueue(g memory.Guest, r Rings, limit int, features uint64, kick *Kick, interrupt func()) (*Queue, error) {
	q := &Queue{
		guest: g, layout: g.Layout(), rings: r, limit: max(limit, r.Size), features: features,
		kick: kick, interrupt: interrupt, stop: make(chan struct{}),
	}
	if err := r.check(q.layout); err != nil {
		return nil, err
	}
	return q, nil
}

// Guest returns guest RAM.
func (q *Queue) Guest() memory.Guest { return q.guest }

// Stopped returns a channel that is closed when the device is reset or the machine
// ends, for devices that wait for something else than Next.
func (q *Queue) Stopped() <-chan struct{} { return q.stop }

// Stop makes Next, TryNext and Done return ErrStopped. Accesses to guest RAM that
// others have begun may still go on.
func (q *Queue) Stop() {
	q.once.Do(func() {
		q.stopped.Store(true)
		close(q.stop)
		q.kick.Signal()
	})
}

// Wake makes Next return nil, without an error, when it has returned all requests that
// are available now: the Next that waits, or one that is called later.
func (q *Queue) Wake() {
	q.woken.Store(true)
	q.kick.Signal()
}

// Next returns the next request, and waits for it. Its error is ErrStopped, or says
// what is wrong with the queue. See Wake.
func (q *Queue) Next() (*Chain, error) {
	for {
		c, err := q.TryNext()
		if c != nil || err != nil {
			return c, err
		}
		if q.features&EventIdx != 0 {
			// The driver kicks when it makes the request at q.next available. It
			// may have done so before it saw the new avail_event: look again.
			if err := q.write16(q.rings.availEvent(), q.next); err != nil {
				return nil, q.broken(err)
			}
			q.fence.Add(1)
			if c, err := q.TryNext(); c != nil || err != nil {
				return c, err
			}
		}
		if q.woken.Swap(false) {
			// Look again: there may have been requests before the Wake.
			c, err := q.TryNext()
			q.woken.CompareAndSwap(false, c != nil)
			return c, err
		}
		if err := q.kick.wait(); err != nil {
			return nil, q.broken(err)
		}
	}
}

// TryNext is Next, but returns nil if there is no request now.
func (q *Queue) TryNext() (*Chain, error) {
	switch {
	case q.stopped.Load():
		return nil, ErrStopped
	case q.err != nil:
		return nil, q.err
	}
	if q.taken == q.of {
		if err := q.readHeads(); err != nil {
			return nil, q.broken(err)
		}
		if q.of == 0 {
			return nil, nil
		}
	}
	c, err := q.chain()
	if err == nil {
		err = q.parse(c, q.heads[q.taken])
	}
	if err != nil {
		return nil, q.broken(err)
	}
	q.taken++
	return c, nil
}

func (q *Queue) broken(err error) error {
	q.err = err
	return err
}

// readHeads reads the heads of requests that are available, as many as fit.
func (q *Queue) readHeads() error {
	q.taken, q.of = 0, 0
	if _, err := q.guest.ReadAt(q.in[:2], q.rings.availIndex()); err != nil {
		return err
	}
	n := int(binary.LittleEndian.Uint16(q.in[:]) - q.next)
	if n > q.rings.Size {
		return fmt.Errorf("%w: by %d, the size is %d", errJump, n, q.rings.Size)
	}
	if n == 0 {
		return nil
	}
	n = min(n, headBatch, q.rings.Size-int(q.rings.slot(q.next)))
	if _, err := q.guest.ReadAt(q.in[:2*n], q.rings.availHead(q.next)); err != nil {
		return err
	}
	for i := range n {
		q.heads[i] = binary.LittleEndian.Uint16(q.in[2*i:])
	}
	q.of, q.next = n, q.next+uint16(n)
	return nil
}

// chain returns a chain that isn't in use. A driver has as many requests in flight
// as the queue has descriptors at most, since each has one of its own.
func (q *Queue) chain() (*Chain, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var c *Chain
	switch n := len(q.free); {
	case n > 0:
		c, q.free = q.free[n-1], q.free[:n-1]
	case q.chains == q.rings.Size:
		return nil, errInFlight
	default:
		q.chains++
		c = &Chain{}
	}
	c.busy = true
	return c, nil
}

// Done tells the driver that the device has used a request, and has written the first
// written bytes of Writable. It interrupts the driver if the driver wants that. The
// chain is then the queue's again. After Stop it writes nothing and returns ErrStopped.
func (q *Queue) Done(c *Chain, written uint32) error {
	wanted, err := q.use(c, written)
	if wanted {
		q.interrupt()
	}
	return err
}

func (q *Queue) use(c *Chain, written uint32) (wanted bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !c.busy:
		return false, errors.New("Done of a request that is done")
	case uint64(written) > c.writable:
		return false, fmt.Errorf("Done with %d bytes written of %d", written, c.writable)
	}
	c.busy = false
	q.free = append(q.free, c)
	if q.stopped.Load() {
		return false, ErrStopped
	}
	old := q.used
	q.used++
	binary.LittleEndian.PutUint32(q.out[:], uint32(c.head))
	binary.LittleEndian.PutUint32(q.out[4:], written)
	if _, err := q.guest.WriteAt(q.out[:], q.rings.usedElem(old)); err != nil {
		return false, err
	}
	// x86 keeps the order of stores: the driver sees the element before the index.
	binary.LittleEndian.PutUint16(q.out[:], q.used)
	if _, err := q.guest.WriteAt(q.out[:2], q.rings.usedIndex()); err != nil {
		return false, err
	}
	q.fence.Add(1)
	at := q.rings.Avail // flags
	if q.features&EventIdx != 0 {
		at = q.rings.usedEvent()
	}
	if _, err := q.guest.ReadAt(q.out[:2], at); err != nil {
		return false, err
	}
	v := binary.LittleEndian.Uint16(q.out[:])
	if q.features&EventIdx != 0 {
		return v == old, nil // §2.7.7.2 and vring_need_event, for one element
	}
	return v&availNoInterrupt == 0, nil
}

func (q *Queue) write16(gpa memory.GPA, v uint16) error {
	binary.LittleEndian.PutUint16(q.in[:], v)
	_, err := q.guest.WriteAt(q.in[:2], gpa)
	return err
}
