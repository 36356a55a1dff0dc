package virtio_test

import (
	"offmap/vmm/virtio"
)

// echo copies what is readable to what is writable.
type echo struct {
	sizes  []int
	closed int
}

func (e *echo) Name() string        { return "echo" }
func (e *echo) ID() uint16          { return 42 }
func (e *echo) Features() uint64    { return 1 << 3 }
func (e *echo) QueueSizes() []int   { return e.sizes }
func (e *echo) Config() []byte      { return []byte("configuration") }
func (e *echo) Close() error        { e.closed++; return nil }
func (e *echo) Stats() virtio.Stats { return virtio.Stats{} }

func (e *echo) Serve(_ int, q *virtio.Queue, _ uint64) error {
	for {
		c, err := q.Next()
		if err != nil {
			return err
		}
		p := make([]byte, min(c.Readable.Size(), c.Writable.Size(), 1<<20))
		if err := c.Readable.CopyOut(q.Guest(), p); err != nil {
			return err
		}
		if err := c.Writable.CopyIn(q.Guest(), p); err != nil {
			return err
		}
		if err := q.Done(c, uint32(len(p))); err != nil {
			return err
		}
	}
}
