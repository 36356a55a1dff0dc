package virtio

import (
	"errors"

	"offmap/memory"
)

// ErrStopped is Next's error when the device was reset, or the machine has ended.
var ErrStopped = errors.New("virtqueue stopped")

// Chain is a request: a descriptor chain, copied and checked. All of it is guest RAM.
type Chain struct {
	Readable memory.Ranges // what the device reads
	Writable memory.Ranges // what the device writes
}

// Queue is a split virtqueue, virtio 1.2 §2.7.
type Queue struct {
	guest memory.Guest
}

// Guest returns guest RAM.
func (q *Queue) Guest() memory.Guest { return q.guest }

// Next returns the next request, and waits for it. Its error is ErrStopped, or says
// what is wrong with the queue.
func (q *Queue) Next() (*Chain, error) { return nil, ErrStopped }

// TryNext is Next, but returns nil if there is no request now.
func (q *Queue) TryNext() (*Chain, error) { return nil, ErrStopped }

// Done tells the driver that the device has used a request, and has written the first
// written bytes of Writable. The chain is then the queue's again.
func (q *Queue) Done(c *Chain, written uint32) error { return nil }
